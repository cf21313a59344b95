"""``lamina generate``: let a model in this process write, within a cache of so many bytes.

A long text goes before the prompt with ``--context``. What the cache policy left of it can be saved as a ``.cube`` file
and asked again later, without the text being read anew.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.budget import written
from lamina.cli import output
from lamina.cli.command import PLAIN, Session, command
from lamina.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from lamina.llm.causal import CausalLM

_POLICY = "What is kept of the cache: cake:6MiB, xkv:ratio=4, cake:6MiB+xkv:ratio=2+int8. Everything, if left out."


@command(PLAIN)
def generate(
    session: Session,
    prompt: Annotated[str, typer.Argument(help="What to answer, or with a base model to continue.")],
    model: Annotated[str, typer.Option(help="A packaged, local or hub model.")] = "smollm2",
    context: Annotated[Path | None, typer.Option(help="A text file to read first; - is standard input.")] = None,
    cache: Annotated[str | None, typer.Option(metavar="POLICY", help=_POLICY)] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Save what is kept of --context.")] = None,
    behind: Annotated[Path | None, typer.Option(metavar="FILE", help="Go on behind a saved context.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1)] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.0,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Write an answer, and say how many bytes the cache took."""
    if behind is not None and (context is not None or cache is not None or save is not None):
        raise InvalidInput("--behind goes on behind what was saved; it takes no --context, --cache or --save")
    if save is not None and (context is None or cache is None):
        raise InvalidInput("--save keeps what --cache leaves of --context: give both")
    if save is not None and not save.absolute().parent.is_dir():
        raise NotFound(f"--save {str(save)!r}: there is no such folder")
    from lamina.llm.causal import CausalLM

    text = _read(context)
    lm = CausalLM.load(model)
    with ExitStack() as stack:
        begin = time.perf_counter()
        held, ids = _prepared(lm, stack, prompt, text, cache, save, behind, max_tokens)
        said, first = _written(lm, ids, held, max_tokens, temperature, seed, loud=not session.json)
        end = time.perf_counter()
    figures = {"first_token_seconds": round(first - begin, 3), "seconds": round(end - begin, 3)}
    result = {"text": said, **figures, **_bytes(lm, held)}
    output.emit(session.json, result, lambda screen: _show(screen, result, save))


def _read(context: Path | None) -> str:
    if context is None:
        return ""
    if str(context) == "-":
        return sys.stdin.read()
    if not context.is_file():
        raise NotFound(f"--context {str(context)!r}: there is no such file")
    try:
        return context.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"--context {str(context)!r}: is no UTF-8 text ({error.reason})") from error


def _prepared(
    lm: CausalLM,
    stack: ExitStack,
    prompt: str,
    text: str,
    cache: str | None,
    save: Path | None,
    behind: Path | None,
    max_tokens: int,
) -> tuple[Any, list[int]]:
    """The cache to go on with, its policy attached for as long as ``stack`` is open, and the ids to read."""
    from transformers import DynamicCache

    from lamina.activation.attach import attach
    from lamina.activation.compressed_cube import CompressedCube
    from lamina.activation.policies import parse_policy
    from lamina.cube import file
    from lamina.cube.cube import Header, MemCube

    before, rest = _ids(lm, "saved" if behind else text, prompt)
    if not rest or (save is not None and not before):
        raise InvalidInput("there is nothing to read: give a PROMPT, and with --save a --context that is not empty")
    if behind is None and len(before) + len(rest) + max_tokens > lm.limit:
        raise InvalidInput(
            f"{len(before)} tokens of context, {len(rest)} of the prompt and --max-tokens {max_tokens} are more than "
            f"the {lm.limit} that {lm.name} reads"
        )
    if behind is not None:
        return stack.enter_context(CompressedCube.load(behind, lm).attached(lm)), rest
    if cache is None:
        return DynamicCache(config=lm.model.config), before + rest
    policy = parse_policy(cache)
    if save is not None:
        cube = CompressedCube.build(lm, before, policy)
        file.write(MemCube(Header(kind="activation", semantic_type="context"), cube.to_payload()), save)
        return stack.enter_context(cube.attached(lm)), rest
    stack.enter_context(attach(lm.model, policy))
    return policy.cache(lm.model), before + rest


def _ids(lm: CausalLM, text: str, prompt: str) -> tuple[list[int], list[int]]:
    """Of the text, as the system's turn where there is a chat template, and of what comes after it."""
    if not lm.tokenizer.chat_template:
        return lm.encode(f"{text}\n\n" if text else ""), lm.encode(prompt)
    if not text:
        return [], lm.prompt([{"role": "user", "content": prompt}])
    before = lm.prompt([{"role": "system", "content": text}], reply=False)
    whole = lm.prompt([{"role": "system", "content": text}, {"role": "user", "content": prompt}])
    return before, whole[len(before) :]


def _written(
    lm: CausalLM, ids: list[int], held: Any, max_tokens: int, temperature: float, seed: int, *, loud: bool
) -> tuple[str, float]:
    """The answer, shown as it comes if ``loud``; and when its first token was there."""
    found: list[int] = []
    shown, first = "", None
    for id in lm.steps(ids, max_tokens, cache=held, temperature=temperature, seed=seed):
        first = first or time.perf_counter()
        found.append(id)
        said = lm.decode(found)
        if loud and not said.endswith("\ufffd"):  # the rest of a letter is still to come
            output.console().print(output.styled(said[len(shown) :]), end="", soft_wrap=True)
            shown = said
    if loud:
        output.console().print()
    return lm.decode(found), first or time.perf_counter()


def _bytes(lm: CausalLM, held: Any) -> dict[str, int]:
    """Of the cache, of the most it ever held (0: not known), and of a whole cache of as many tokens."""
    config, tokens = lm.model.config, held.get_seq_length()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    whole = int(tokens * 2 * config.num_hidden_layers * heads * width * lm.model.dtype.itemsize)
    return {
        "tokens": tokens,
        "cache_bytes": getattr(held, "nbytes", whole),
        "peak_bytes": getattr(held, "peak_nbytes", whole),
        "whole_bytes": whole,
    }


def _show(screen: Any, result: dict[str, Any], save: Path | None) -> None:
    held, whole = result["cache_bytes"], result["whole_bytes"]
    told = f"{result['tokens']} tokens in a cache of {written(held)}"
    if whole >= 1.05 * held:
        told += f", {whole / held:.1f} times smaller than whole ({written(whole)}); never over "
        told += written(result["peak_bytes"])
    told += f"; first token after {result['first_token_seconds']:.1f} s, all after {result['seconds']:.1f} s"
    screen.print(output.styled(told, "dim"), soft_wrap=True)
    if save is not None:
        screen.print(output.styled(f"saved: lamina generate QUESTION --behind {save}", "dim"), soft_wrap=True)
