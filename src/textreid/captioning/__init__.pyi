from .backends.simulated import SimulatedMLLM as SimulatedMLLM
from .discovery import ChatModel as ChatModel, discover_templates as discover_templates
from .instructions import (
    Instruction as Instruction,
    dynamic_instructions as dynamic_instructions,
    static_instruction as static_instruction,
    style_instructions as style_instructions,
)
from .mllms import CaptionerOptions as CaptionerOptions
from .plan import caption as caption
from .requests import (
    Caption as Caption,
    Captioner as Captioner,
    CaptionFailure as CaptionFailure,
    Request as Request,
    Usage as Usage,
)
from .templates import Template as Template, own_templates as own_templates, read_templates as read_templates
