"""Model settings: one dataclass a family, one file a family."""

from dltrain.config.model.alexnet import AlexNet as AlexNet
from dltrain.config.model.alexnet import AlexNetForm as AlexNetForm
from dltrain.config.model.attention_cnn import AttentionCNN as AttentionCNN
from dltrain.config.model.attention_cnn import Compatibility as Compatibility
from dltrain.config.model.base import SMALL as SMALL
from dltrain.config.model.base import Activation as Activation
from dltrain.config.model.base import Attention as Attention
from dltrain.config.model.base import Model as Model
from dltrain.config.model.base import Norm as Norm
from dltrain.config.model.base import Pool as Pool
from dltrain.config.model.base import Scale as Scale
from dltrain.config.model.base import Size as Size
from dltrain.config.model.inception import InceptionForm as InceptionForm
from dltrain.config.model.inception import InceptionV1 as InceptionV1
from dltrain.config.model.lenet import LeNet5 as LeNet5
from dltrain.config.model.lenet import LeNet5Caffe as LeNet5Caffe
from dltrain.config.model.mlp import MLP as MLP
from dltrain.config.model.resnet import CifarResNet as CifarResNet
from dltrain.config.model.resnet import ResNet as ResNet
from dltrain.config.model.resnet import Shortcut as Shortcut
from dltrain.config.model.unet import Padding as Padding
from dltrain.config.model.unet import PerPixel as PerPixel
from dltrain.config.model.unet import UNet as UNet
from dltrain.config.model.unet import UNetResNet as UNetResNet
from dltrain.config.model.unet import Up as Up
from dltrain.config.model.vgg import VGG as VGG
