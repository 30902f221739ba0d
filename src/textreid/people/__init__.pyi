from .analysis import (
    Analysed as Analysed,
    analyse_photograph as analyse_photograph,
    analyse_video as analyse_video,
    find_people as find_people,
)
from .crops import PersonCrop as PersonCrop
from .detector import Detector as Detector, OnnxDetector as OnnxDetector, load_detector as load_detector
from .video import Video as Video, is_stream as is_stream, is_video as is_video
