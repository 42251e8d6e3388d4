"""What must hold for every file of the package, so that the promises stay true as it grows."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from dltrain.config import table
from dltrain.config.mode import Config

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "dltrain").rglob("*.py"))
CODE = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE}
BELOW_CONFIG = {name: text for name, text in CODE.items() if not name.startswith("dltrain/config/")}


def calls(text: str) -> list[str]:
    """Dotted names of all that a module calls."""
    return [ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("name", CODE)
def test_a_file_is_read_in_one_sitting(name: str) -> None:
    assert len(CODE[name].splitlines()) <= 300


@pytest.mark.parametrize("name", [name for name in CODE if name != "dltrain/cli.py"])
def test_only_the_command_line_exits(name: str) -> None:
    assert not {"sys.exit", "exit", "quit", "os._exit"} & set(calls(CODE[name]))
    assert "SystemExit(" not in CODE[name]


DRAWING = re.compile(
    r"^(random\.(?!key|order|uniform|normal|words|philox|draw_|seed_generators|set_position|Position)\w+|np\.random\..*|numpy\.random\..*"
    r"|torch\.(rand|randn|randint|randperm|normal|bernoulli|multinomial|manual_seed|seed|Generator)(_like)?"
    r"|torch\.random\..*|.*\.fork_rng|.*\.(uniform_|normal_|bernoulli_|random_|exponential_)|secrets\..*|uuid\.uuid4|os\.urandom)$"
)


NOT_FOR_TRAINING = {
    ("dltrain/atomic.py", "secrets.token_hex"),  # names of temporary files, which nobody may guess
    ("dltrain/data/streaming.py", "torch.Generator"),  # so that torch's loader leaves the default one alone
}


@pytest.mark.parametrize("name", [name for name in CODE if name != "dltrain/engine/random.py"])
def test_only_engine_random_draws(name: str) -> None:
    drawing = [call for call in calls(CODE[name]) if DRAWING.match(call)]
    drawing = [call for call in drawing if (name, call) not in NOT_FOR_TRAINING]
    if name.startswith("dltrain/models/"):  # weights are drawn from the generators that engine/random.py seeds
        drawing = [call for call in drawing if not call.startswith(("nn.init.", "init."))]
    assert drawing == []
    assert not re.search(r"^\s*(import|from) random\b", CODE[name], re.MULTILINE)


def test_the_drawing_guard_sees_a_draw() -> None:
    for call in ("torch.rand", "np.random.default_rng", "random.shuffle", "x.normal_", "torch.manual_seed"):
        assert DRAWING.match(call)
    assert not DRAWING.match("random.draw_normal")


def settings() -> list[tuple[str, str]]:
    """(dataclass, field) of every setting."""
    found: list[tuple[str, str]] = []

    def walk(schema: type) -> None:
        for field in dataclasses.fields(schema):
            if field.name in ("name", "mode") or (schema is not Config and hasattr(Config, field.name)):
                continue
            found.append((schema.__name__, field.name))
            inner = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
            if dataclasses.is_dataclass(inner) and inner is not None:
                walk(type(inner))

    for group in table.SCHEMAS.values():
        for schema in group.values():
            walk(schema)
    return sorted(set(found))


@pytest.mark.parametrize(("schema", "field"), settings())
def test_every_setting_is_read_outside_config(schema: str, field: str) -> None:
    """No option is parsed and ignored."""
    read = re.compile(rf"\.{field}\b")
    readers = [name for name, text in BELOW_CONFIG.items() if read.search(text)]
    if field in ("trust",):  # decides which code may be imported while the config is composed
        readers = [name for name in CODE if read.search(CODE[name]) or f'"{field}' in CODE[name]]
    assert readers, f"{schema}.{field} is read nowhere"


@pytest.mark.parametrize("name", CODE)
def test_checkpoints_are_never_unpickled(name: str) -> None:
    assert not re.search(
        r"weights_only\s*=\s*False|add_safe_globals|pickle\.load|np\.load\((?!.*allow_pickle=False)", CODE[name]
    )
    for call in re.findall(r"torch\.load\([^)]*\)", CODE[name]):
        assert "weights_only=True" in call


TORCH_FREE = (
    "dltrain/config/",
    "dltrain/cli.py",
    "dltrain/job.py",
    "dltrain/opened.py",
    "dltrain/run.py",
    "dltrain/sweep.py",
    "dltrain/signals.py",
    "dltrain/output.py",
    "dltrain/modes/compare",
)


@pytest.mark.parametrize("name", [name for name in CODE if name.startswith(TORCH_FREE)])
def test_torch_is_imported_late(name: str) -> None:
    """Neither torch nor a module that needs it is imported when one of these is."""
    rooms = r"engine|models|tasks|modes(?!\.compare)|environment|checkpoint|loaded"
    heavy = re.compile(rf"^(torch|torchvision|dltrain\.({rooms})\b)")
    for node in ast.parse(CODE[name]).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [imported for imported in names if heavy.match(imported)]


def test_nothing_is_changed_in_place_in_models() -> None:
    """Attribution and hooks break on `inplace=True`."""
    assert [name for name, text in CODE.items() if name.startswith("dltrain/models/") and "inplace=True" in text] == []


# each imports from those before it
ROOMS = ("config", "data", "report", "models", "tasks", "measuring", "engine", "modes")
DRAWS = {
    (f"dltrain/{name}.py", "engine") for name in ("data/augment", "data/joint", "data/sampling", "tasks/adversarial")
}


def rooms_imported(text: str) -> set[str]:
    """The rooms that a file's code imports from, at any time; what only a type checker reads is left out."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "dltrain":
            names += [f"dltrain.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
        found.update(name.split(".")[1] for name in names if name.startswith("dltrain."))
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(text))
    return found & set(ROOMS)


@pytest.mark.parametrize("name", [name for name in CODE if name.split("/")[1] in ROOMS])
def test_nothing_imports_from_further_up(name: str) -> None:
    place = ROOMS.index(name.split("/")[1])
    above = [room for room in rooms_imported(CODE[name]) if ROOMS.index(room) > place and (name, room) not in DRAWS]
    assert above == []


def test_the_guard_of_the_rooms_sees_an_import() -> None:
    assert rooms_imported("def f():\n    from dltrain.engine.loop import train") == {"engine"}
    assert rooms_imported("from dltrain import data, run") == {"data"}
    assert rooms_imported("if TYPE_CHECKING:\n    from dltrain.tasks import Task") == set()
