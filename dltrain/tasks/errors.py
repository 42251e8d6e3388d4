"""What a regression's answers are worth, from running sums in float64 that stay on the device until the end."""

import torch
from torch import Tensor


class Errors:
    """Running sums of an evaluation: `add` never waits for the device, `read` does, once.

    For each output: the mean of the targets and the sum of squares about it (merged as in Chan, Golub and LeVeque 1983,
    and counted from the first target, so that values far from 0 do not cancel and equal ones give exactly 0), sums of
    squared and of absolute errors. But for rounding in float64 they do not depend on how a split is cut into batches.
    """

    def __init__(self, outputs: int, device: torch.device) -> None:
        self.rows = 0
        self.origin: Tensor | None = None
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.centre, self.total, self.squared, self.absolute = torch.zeros(
            4, outputs, dtype=torch.float64, device=device
        )

    def add(self, answers: Tensor, values: Tensor, loss: Tensor) -> None:
        """Count (N, K) answers, N > 0, against (N, K) true values, in real units, and the mean loss of these rows."""
        values = values.double()
        if self.origin is None:
            self.origin = values[0]
        rows = len(values)
        seen, self.rows = self.rows, self.rows + rows
        moved = values - self.origin
        centre = moved.mean(0)
        apart = centre - self.centre
        self.total = self.total + (moved - centre).square().sum(0) + apart.square() * (seen * rows / self.rows)
        self.centre = self.centre + apart * (rows / self.rows)
        errors = answers.double() - values
        self.squared = self.squared + errors.square().sum(0)
        self.absolute = self.absolute + errors.abs().sum(0)
        self.loss = self.loss + loss.double() * rows

    def read(self, names: tuple[str, ...]) -> dict[str, float]:
        """`loss`, `r2`, `r2/<name>` and `mae/<name>` of each output, and `mae` where there is one output.

        R² = 1 - SS_res / SS_tot over the split. Of a target that does not vary it is 1 where all answers are exact,
        else 0, as in scikit-learn, so that `r2`, the mean over outputs, is a number. The mean absolute error is in the
        output's unit; a mean over outputs would add degrees to pixels. Raises ValueError if there was nothing.
        """
        if not self.rows:
            raise ValueError("no images to evaluate")
        numbers = torch.stack([self.total, self.squared, self.absolute, self.loss.expand_as(self.total)]).cpu()
        total, squared, absolute, loss = numbers.unbind()
        r2 = [r_squared(left, all_) for left, all_ in zip(squared.tolist(), total.tolist(), strict=True)]
        mae = (absolute / self.rows).tolist()
        values = {"loss": loss[0].item() / self.rows, "r2": sum(r2) / len(r2)}
        values |= {"mae": mae[0]} if len(mae) == 1 else {}
        values |= {f"r2/{name}": value for name, value in zip(names, r2, strict=True)}
        return values | {f"mae/{name}": value for name, value in zip(names, mae, strict=True)}


def r_squared(left: float, total: float) -> float:
    """1 - left / total for sums of squares: those of the errors, and those about the mean."""
    if total == 0:
        return 1.0 if left == 0 else 0.0
    return 1 - left / total
