"""The rows of the tables in docs/models.md and README.md: a network's paper, and what the tests hold it to."""

from dataclasses import dataclass

PAPERS = {
    "Rumelhart 1986": "Rumelhart, Hinton, Williams: Learning representations by back-propagating errors. Nature",
    "LeCun 1998": "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition. IEEE",
    "Krizhevsky 2012": "Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional networks. NIPS",
    "Jia 2014": "Jia et al.: Caffe: convolutional architecture for fast feature embedding. arXiv:1408.5093",
    "Krizhevsky 2014": "Krizhevsky: One weird trick for parallelizing convolutional neural networks. arXiv:1404.5997",
    "Szegedy 2014": "Szegedy et al.: Going deeper with convolutions. arXiv:1409.4842",
    "Simonyan 2015": "Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition. "
    "arXiv:1409.1556",
    "Ioffe 2015": "Ioffe, Szegedy: Batch normalization. arXiv:1502.03167",
    "He 2015": "He, Zhang, Ren, Sun: Deep residual learning for image recognition. arXiv:1512.03385",
    "Hu 2018": "Hu, Shen, Albanie, Sun, Wu: Squeeze-and-excitation networks. arXiv:1709.01507",
    "Woo 2018": "Woo, Park, Lee, Kweon: CBAM: convolutional block attention module. arXiv:1807.06521",
    "Ronneberger 2015": "Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation. "
    "arXiv:1505.04597",
    "Jetley 2018": "Jetley, Lord, Lee, Torr: Learn to pay attention. arXiv:1804.02391",
    "Radford 2015": "Radford, Metz, Chintala: Unsupervised representation learning with deep convolutional generative "
    "adversarial networks. arXiv:1511.06434",
}

IMAGENET = ((3, 224, 224), 1000)
CIFAR = ((3, 32, 32), 10)
DIGITS = ((1, 28, 28), 10)
CELLS = ((1, 512, 512), 2)  # the images of the paper's first challenge, cells and membranes
VOC = ((3, 224, 224), 21)
FACES = ((3, 64, 64), 1)


@dataclass(frozen=True)
class Row:
    """A network at one size of images: `words` are what is typed behind `model=`."""

    words: str
    paper: str  # a key of PAPERS
    at: tuple[tuple[int, int, int], int]  # shape (C, H, W) and number of outputs
    equals: str  # what an equality is tested with; "" where the network's own row says it
    proof: str = ""  # the file of that test, below tests/

    @property
    def name(self) -> str:
        """The option of `model`."""
        return self.words.split()[0]

    @property
    def key(self) -> str:
        """What tells it from other rows: `resnet18 at 3x32x32`."""
        return f"{self.words} at {self.size}"

    @property
    def size(self) -> str:
        return "x".join(map(str, self.at[0]))


def _twin(words: str, paper: str, theirs: str, family: str) -> Row:
    return Row(words, paper, IMAGENET, f"torchvision `{theirs}`", f"models/test_{family}.py")


def _cifar(layers: int) -> Row:
    return Row(f"resnet{layers}", "He 2015", CIFAR, "written out in float64", "models/test_cifar_resnet.py")


# one row a name, at the input of its paper
MODELS = [
    Row("mlp", "Rumelhart 1986", DIGITS, "scikit-learn `MLPClassifier`", "models/test_mlp.py"),
    Row("mlp_300_100", "LeCun 1998", DIGITS, "scikit-learn `MLPClassifier`", "models/test_mlp.py"),
    Row("lenet5", "LeCun 1998", ((1, 32, 32), 10), "written out in float64", "models/test_lenet5.py"),
    Row("lenet5_caffe", "Jia 2014", DIGITS, "Caffe's prototxt", "models/test_lenet5_caffe.py"),
    _twin("alexnet", "Krizhevsky 2014", "alexnet", "alexnet"),
    *(_twin(f"vgg{layers}", "Simonyan 2015", f"vgg{layers}", "vgg") for layers in (11, 13, 16, 19)),
    _twin("inception_v1", "Szegedy 2014", "googlenet", "inception"),
    *(_twin(f"resnet{layers}", "He 2015", f"resnet{layers}", "resnet") for layers in (18, 34, 50, 101, 152)),
    *(_cifar(layers) for layers in (20, 32, 44, 56, 110)),
    Row("attention_cnn", "Jetley 2018", CIFAR, "NumPy in float64", "models/test_attention_cnn.py"),
    Row("unet", "Ronneberger 2015", CELLS, "written out in float64", "models/test_unet.py"),
    *(
        Row(f"unet_resnet{n}", "Ronneberger 2015", VOC, f"features of `resnet{n}`", "models/test_unet_resnet.py")
        for n in (18, 34)
    ),
    Row("dcgan", "Radford 2015", FACES, "written out in float64", "models/test_dcgan.py"),
]

# other published forms
VARIANTS = [
    Row(
        "alexnet model.form=paper",
        "Krizhevsky 2012",
        ((3, 227, 227), 1000),
        "the paper, by torch's functions",
        "models/test_alexnet.py",
    ),
    *(_twin(f"vgg{layers} model.norm=batch", "Ioffe 2015", f"vgg{layers}_bn", "vgg") for layers in (11, 13, 16, 19)),
    _twin("inception_v1 model.auxiliary_weight=null", "Szegedy 2014", "googlenet", "inception"),
    Row("inception_v1 model.form=paper", "Szegedy 2014", IMAGENET, "the paper's table 1", "models/test_inception.py"),
    Row("resnet20 model.shortcut=B", "He 2015", CIFAR, "written out in float64", "models/test_cifar_resnet.py"),
    Row("resnet20 model.residual=false", "He 2015", CIFAR, "written out in float64", "models/test_cifar_resnet.py"),
    Row(
        "unet model.padding=valid model.norm=none",
        "Ronneberger 2015",
        ((1, 572, 572), 2),
        "the paper's figure 1",
        "models/test_unet.py",
    ),
]

# the networks for photographs, at CIFAR's size
SMALL = [
    Row(words, paper, CIFAR, "")
    for words, paper in (
        ("alexnet", "Krizhevsky 2014"),
        ("vgg11", "Simonyan 2015"),
        ("vgg16", "Simonyan 2015"),
        ("vgg16 model.norm=batch", "Ioffe 2015"),
        ("inception_v1", "Szegedy 2014"),
        ("resnet18", "He 2015"),
        ("resnet34", "He 2015"),
        ("resnet50", "He 2015"),
    )
]

# what attention adds
ATTENTION = [
    Row(f"{name} model.attention={kind}", paper, at, equals, "models/test_attention.py")
    for name, at in (
        ("resnet20", CIFAR),
        ("resnet18", IMAGENET),
        ("resnet50", IMAGENET),
        ("vgg16 model.norm=batch", IMAGENET),
    )
    for kind, paper, equals in (
        ("se", "Hu 2018", "timm `SEModule`"),
        ("cbam", "Woo 2018", "timm `CbamModule`"),
        ("spatial_softmax", "", "NumPy in float64"),
    )
]

TABLES = {"models": MODELS, "variants": VARIANTS, "small": SMALL, "attention": ATTENTION}
