"""Data settings: one dataclass a kind of data set."""

from dltrain.config.data.base import Augment as Augment
from dltrain.config.data.base import Cut as Cut
from dltrain.config.data.base import Data as Data
from dltrain.config.data.base import Fetched as Fetched
from dltrain.config.data.base import Files as Files
from dltrain.config.data.base import LoaderKind as LoaderKind
from dltrain.config.data.base import Sampling as Sampling
from dltrain.config.data.base import Unreadable as Unreadable
from dltrain.config.data.known import Cifar10 as Cifar10
from dltrain.config.data.known import Cifar100 as Cifar100
from dltrain.config.data.known import Digits as Digits
from dltrain.config.data.known import DigitsPose as DigitsPose
from dltrain.config.data.known import FashionMnist as FashionMnist
from dltrain.config.data.known import Mnist as Mnist
from dltrain.config.data.masks import DigitScenes as DigitScenes
from dltrain.config.data.masks import MaskAugment as MaskAugment
from dltrain.config.data.masks import MaskFolder as MaskFolder
from dltrain.config.data.masks import Masks as Masks
from dltrain.config.data.masks import Pets as Pets
from dltrain.config.data.masks import UnknownValues as UnknownValues
from dltrain.config.data.masks import Voc2012 as Voc2012
from dltrain.config.data.own import Array as Array
from dltrain.config.data.own import Csv as Csv
from dltrain.config.data.own import Folder as Folder
from dltrain.config.data.own import ImagesOnly as ImagesOnly
from dltrain.config.data.own import TargetArray as TargetArray
