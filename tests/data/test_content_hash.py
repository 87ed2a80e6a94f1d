"""What a SPEC names, by its content: the sum changes with a file that decides what is read, and with no other."""

from __future__ import annotations

from pathlib import Path

from geomfeat.data.content_hash import contents
from geomfeat.models.sources import load_model
from tests.data.test_image_files import pixels, write
from tests.models.sources.tiny import WORDS, adapter, gpt, with_tokenizer


def test_of_a_saved_model(tmp_path: Path) -> None:
    first = contents(f"hf:{gpt(tmp_path / 'a')}")
    assert len(first) == 1
    (tmp_path / "a" / "checkpoint-1").mkdir()
    (tmp_path / "a" / "optimizer.pt").write_bytes(b"x")
    assert contents(f"hf:{tmp_path / 'a'}") == first == contents(f"hf:{gpt(tmp_path / 'b')}")
    gpt(tmp_path / "a", seed=1)
    assert contents(f"hf:{tmp_path / 'a'}") != first
    other = contents(f"hf:{with_tokenizer(tmp_path / 'b')}")
    assert other != first


def test_of_an_adapter_with_its_base(tmp_path: Path) -> None:
    own = adapter(tmp_path / "own", load_model(f"hf:{gpt(tmp_path / 'base')}"))
    first = contents(f"hf:{own}")
    gpt(tmp_path / "base", seed=1)
    second = contents(f"hf:{own}")
    adapter(own, load_model(f"hf:{tmp_path / 'base'}"), seed=5)
    assert len({*first, *second, *contents(f"hf:{own}")}) == 3


def test_of_texts_with_their_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat\n")
    with_tokenizer(tmp_path / "words")
    spec = f"text:{tmp_path / 'a.txt'}:max_length=3,tokenizer={tmp_path / 'words'}"
    first = contents(spec)
    assert contents(f"text:{tmp_path / 'a.txt'}") == first[:1]
    with_tokenizer(tmp_path / "words", WORDS[::-1])
    second = contents(spec)
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_of_images(tmp_path: Path) -> None:
    write(tmp_path / "zoo" / "cat" / "1.png", pixels(0))
    first = contents(f"images:{tmp_path / 'zoo'}:size=4")
    assert first == contents(f"images:{tmp_path / 'zoo'}")
    write(tmp_path / "zoo" / "cat" / "small" / "2.png", pixels(1))
    assert contents(f"images:{tmp_path / 'zoo'}") != first
