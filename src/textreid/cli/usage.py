"""What a command line that cannot be read is answered with: the nearest option, and a complete line that works."""

import dataclasses
import re
from collections.abc import Sequence
from difflib import get_close_matches

import typer

# A line for each command, complete and in the order of its options' help; tests parse every one.
EXAMPLES = {
    "textreid synthesize": "textreid synthesize people --domain street --identities 1000",
    "textreid unpack": "textreid unpack 'shards/{000000..000099}.tar' --out people",
    "textreid doctor": "textreid doctor CUHK-PEDES --benchmark cuhk-pedes",
    "textreid caption": "textreid caption crops --out captions --mllm qwen=http://127.0.0.1:8000/v1#MODEL",
    "textreid pretrain": "textreid pretrain --images crops --captions captions --out runs/mine --preset tiny",
    "textreid finetune": "textreid finetune runs/mine/model --benchmark cuhk-pedes=CUHK-PEDES --out runs/cuhk",
    "textreid runs": "textreid runs runs/mine runs/cuhk",
    "textreid inspect": "textreid inspect runs/mine --image crops/x.jpg --captions captions",
    "textreid evaluate": "textreid evaluate runs/mine/model --benchmark cuhk-pedes=CUHK-PEDES --report report",
    "textreid convert": "textreid convert best.pth mine --to model",
    "textreid search": "textreid search 'a woman in a red jacket' --images crops --sheet found.png",
    "textreid index": "textreid index crops --gallery demo --pattern '{camera}/{date}/{time}_*.jpg'",
    "textreid serve": "textreid serve --gallery demo --port 8000",
    "textreid erase": "textreid erase 17 18 --gallery demo",
    "textreid account add": "textreid account add ada --scope search --camera gate",
    "textreid account list": "textreid account list --database postgresql://db/textreid",
    "textreid account remove": "textreid account remove ada",
    "textreid account token": "textreid account token ada --label laptop --days 30",
    "textreid account revoke": "textreid account revoke ada --label laptop",
    "textreid audit verify": "textreid audit verify --database postgresql://db/textreid",
    "textreid audit export": "textreid audit export --database postgresql://db/textreid",
    "textreid models": "textreid models --json",
    "textreid demo": "textreid demo --out demo",
    "textreid reproduce": "textreid reproduce table3 --scale mini",
    "textreid captions stats": "textreid captions stats captions --by slot --plots diversity.png",
    "textreid captions clean": "textreid captions clean captions cleaned",
    "textreid captions select": "textreid captions select captions part --slot qwen/static --sample 1000",
    "textreid captions export": "textreid captions export captions out --as released",
    "textreid captions import": "textreid captions import Ts-qwen.json Td-qwen.json --images crops --out captions",
    "textreid templates list": "textreid templates list my-templates.txt",
    "textreid templates discover": "textreid templates discover --llm URL#MODEL --captions captions --out templates",
    "textreid gallery list": "textreid gallery list --json",
    "textreid gallery info": "textreid gallery info demo",
    "textreid gallery export": "textreid gallery export demo demo.jsonl --vectors demo.npy",
    "textreid gallery delete": "textreid gallery delete demo --yes",
    "textreid gallery backup": "textreid gallery backup demo demo.gallery",
    "textreid gallery restore": "textreid gallery restore demo.gallery --gallery again",
    "textreid watch frigate": "textreid watch frigate http://frigate:5000 --gallery demo",
    "textreid cache clear": "textreid cache clear --older-than 30",
}  # fmt: skip
# What people call an option that no spelling leads to; the first that the command has is meant.
_MEANT = {
    **dict.fromkeys(("folder", "dir", "directory", "gallery", "input", "i"), ("images",)),
    **dict.fromkeys(("output", "output-dir", "dest", "o"), ("out", "sheet", "report")),
    **dict.fromkeys(("k", "n", "topk", "top-k", "limit", "count"), ("top", "limit")),
    **dict.fromkeys(("checkpoint", "weights", "m"), ("model", "models", "source")),
    **dict.fromkeys(("people", "persons", "ids"), ("identities",)),
    **dict.fromkeys(("data", "test", "val"), ("benchmark", "validate")),
    **dict.fromkeys(("text", "prompt", "sentence", "q"), ("query",)),
    "format": ("to", "as", "json"),
    "model": ("models", "mllm", "source"),
}
_ALIKE = 0.5  # of two names without their dashes
_SINGLE_DASH = re.compile(r"-([a-z][\w-]+)(=.*)?")


def explain(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """Say in one line what is wrong with a command line, and how it is written right.

    Args:
        error: what typer made of it.
        arguments: the command line, without the name of the program.
    """
    context = getattr(error, "ctx", None)
    # Two words first: `textreid captions stats` before `textreid captions`, which has no example.
    begun = [" ".join(["textreid", *arguments[:words]]) for words in (2, 1)]
    command = context.command_path if context else next(filter(EXAMPLES.get, begun), "textreid")
    message = " ".join(error.format_message().split()).strip(".") or "a command is missing"
    if message.startswith("No such option") and context:
        known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
        option = str(getattr(error, "option_name", ""))
        # --images for the argument IMAGES: the name of another option would be no help.
        places = [parameter.name for parameter in context.command.params if parameter.param_type_name == "argument"]
        plain = option.lstrip("-")
        meant = next((name for name in (plain, *_MEANT.get(plain, ())) if name in places or f"--{name}" in known), "")
        if plain in getattr(context.command, "commands", {}):
            message = f"No such option: {option}; did you mean '{command} {plain}'?"
        elif meant in places:
            message = f"No such option: {option}; {meant.upper()} stands there without it"
        elif meant and not any(argument.startswith(f"-{meant}") for argument in arguments):
            message = f"No such option: {option}; did you mean --{meant}?"
        else:
            message = _unknown_option(option, [*known, "--help"], arguments)
    if message.startswith(("No such command", "a command is")) and context and "Did you mean" not in message:
        message = f"{message.rstrip('.')}; known: {', '.join(context.command.list_commands(context))}"
    example = f", or write: {EXAMPLES[command]}" if command in EXAMPLES else ""
    end = "" if message.endswith("?") else "."
    return f"{message.rstrip('.')}{end} See '{command} --help'{example or '.'}"


def _unknown_option(option: str, known: Sequence[str], arguments: Sequence[str]) -> str:
    """Name what an option that is not known was probably meant to be."""
    for argument in arguments:  # "-images" reads as "-i" and what follows
        single = _SINGLE_DASH.fullmatch(argument)
        if single and argument.startswith(option) and f"--{single[1]}" in known:
            return f"No such option: -{single[1]}; did you mean --{single[1]}?"
    # An option as near as this is likelier meant than a setting.
    if "--set" in known and not get_close_matches(option, known, n=1, cutoff=0.75) and (setting := _setting(option)):
        return f"No such option: {option}; did you mean --set {setting}=VALUE?"
    near = get_close_matches(option.lstrip("-"), [name[2:] for name in known], n=1, cutoff=_ALIKE)
    hint = f"did you mean --{near[0]}?" if near and option.startswith("--") else f"known: {', '.join(known)}"
    return f"No such option: {option}; {hint}"


def _setting(option: str) -> str:
    """Name the setting of a training that is called like an option; empty where none is."""
    from textreid.config import Config

    config = Config()
    names = {
        setting.name: f"{section.name}.{setting.name}"
        for section in dataclasses.fields(config)
        for setting in dataclasses.fields(getattr(config, section.name))
    }
    # The short name that everybody uses is too far from the long one to be found by likeness.
    wanted = {"lr": "learning_rate"}.get(option.lstrip("-"), option.lstrip("-").replace("-", "_"))
    near = get_close_matches(wanted, names, n=1, cutoff=0.75)
    return names[near[0]] if near else ""
