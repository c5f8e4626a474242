"""How a tokenizer.json says which tokens there are, which are special, and which frame a text."""

from collections.abc import Mapping, Sequence

from qa_lab.transformer.text._file_parts import Part, flat, only
from qa_lab.transformer.text.subwords import Frame, Tokeniser


def write_special(tokeniser: Tokeniser) -> list[Part]:
    """Name the special tokens.

    Args:
        tokeniser: Whose.

    Returns:
        `added_tokens`.
    """
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": tokeniser.ids[token], "content": token, **plain, "special": True}
        for token in tokeniser.special
    ]


def read_special(added: Sequence[Part], normalizer: Part | None) -> list[str]:
    """Find the special tokens of a file.

    Args:
        added: Its added tokens.
        normalizer: What is done to the text.

    Returns:
        The special tokens in the order of the file.
    """
    first: list[str] = []
    then: list[str] = []  # `tokenizers` looks for these in a second round, in the normalised text
    for part in added:
        where = f"the added token {part['content']!r}"
        fixed = dict.fromkeys(("single_word", "lstrip", "rstrip"), (False,))
        later = (False,) if normalizer else (False, True)
        only(part, where, **fixed, normalized=later, special=(True,), id=None, content=None)
        (then if part.get("normalized") else first).append(part["content"])
    for one in first:
        for other in then:
            if _can_overlap(one, other):
                raise ValueError(
                    f"of the special tokens {one!r} and {other!r}, which can overlap, the file "
                    "looks for one before the other (normalized): that cannot be represented here."
                )
    return [part["content"] for part in added]


def _can_overlap(one: str, other: str) -> bool:
    sizes = range(1, min(len(one), len(other)) + 1)
    meet = any(one[-n:] == other[:n] or other[-n:] == one[:n] for n in sizes)
    return meet or one in other or other in one


def read_vocabulary(ids: Mapping[str, int], added: Sequence[Part]) -> list[str]:
    """List the tokens of a file in the order of their ids.

    Args:
        ids: The model's vocabulary.
        added: The added tokens, in the model's vocabulary or not.

    Returns:
        The vocabulary.
    """
    tokens: dict[int, str] = {}
    for token, index in [*ids.items(), *((part["content"], part["id"]) for part in added)]:
        if ids.get(token, index) != index or tokens.setdefault(index, token) != token:
            raise ValueError(
                f"the file gives {token!r} the id {index}, and that token another id or that id "
                "another token."
            )
    for index in range(len(tokens)):
        if index not in tokens:
            raise ValueError(f"no token of the file has the id {index}: ids may leave none out.")
    return [tokens[index] for index in range(len(tokens))]


def _template(frame: Frame, ids: Mapping[str, int]) -> Part:
    """Write a frame; around two texts it is BERT's, before A after B after."""

    def special(tokens: Sequence[str], segment: int) -> list[Part]:
        return [{"SpecialToken": {"id": token, "type_id": segment}} for token in tokens]

    before, after = frame
    first, second = ({"Sequence": {"id": name, "type_id": n}} for n, name in enumerate("AB"))
    single = [*special(before, 0), first, *special(after, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, second, *special(after, 1)],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]}
            for token in (*before, *after)
        },
    }


def write_frame(frame: Frame, ids: Mapping[str, int]) -> Part | None:
    """Name the tokens around a text.

    Args:
        frame: Tokens before a text and after it.
        ids: From token to id.

    Returns:
        `post_processor`.
    """
    return _template(frame, ids) if any(frame) else None


def read_frame(post_processor: Part | None, vocabulary: Sequence[str]) -> Frame:
    """Find the tokens that a file puts around a text.

    Args:
        post_processor: What is done to ids. ByteLevel means nothing here: it moves offsets.
        vocabulary: Tokens in the order of their ids.

    Returns:
        Tokens before a text and after it.
    """
    ids = {token: index for index, token in enumerate(vocabulary)}
    parts = [p for p in flat(post_processor, "processors") if p["type"] != "ByteLevel"]
    if not parts:
        return (), ()
    if len(parts) == 1 and (frame := _frame_of(parts[0], ids)):
        return frame
    raise ValueError(
        f"the file's post_processor is {post_processor}, which cannot be represented here; what "
        "can is a template of tokens before and after a text, and of two texts as BERT's. "
        "without=['post_processor'] leaves it aside."
    )


def _frame_of(part: Part, ids: Mapping[str, int]) -> Frame | None:
    """Read a frame, if the part says nothing else."""
    if part["type"] == "BertProcessing":
        named = dict(map(tuple, (part["cls"], part["sep"])))
        frame = (part["cls"][0],), (part["sep"][0],)
        return frame if all(ids.get(token) == index for token, index in named.items()) else None
    if part["type"] != "TemplateProcessing":
        return None
    pieces = [item for piece in part["single"] for item in piece.items()]
    place = [kind for kind, _ in pieces].index("Sequence")
    names = [piece["id"] for _, piece in pieces]
    frame = tuple(names[:place]), tuple(names[place + 1 :])
    if not all(token in ids for side in frame for token in side):
        return None
    template = _template(frame, ids)
    template["special_tokens"] = part["special_tokens"] | template["special_tokens"]
    return frame if template == part else None
