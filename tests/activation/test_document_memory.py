"""CMT as a user meets it, on a tiny reader and on SmolLM2: write, read, answer, delete, refuse; the model unchanged."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lamina.activation.document_memory import CMT, _parts
from lamina.activation.documents import objective
from lamina.activation.documents.reader import next_logits
from lamina.activation.documents.training import Example, Objective, endless
from lamina.bench.experiments.documents.document_language import reader
from lamina.cube import MemCube, Scope
from lamina.cube import file as cube_file
from lamina.cube.cube import Header
from lamina.cube.payload import TensorPayload, TextPayload
from lamina.errors import FingerprintMismatch, InvalidInput, NotFound
from lamina.llm.causal import CausalLM

DOCUMENTS = [f"filler{n} first{n} last{n} attribute{n % 8} value{n}" for n in range(6)]
QUESTIONS = [f"ask first{n} last{n} attribute{n % 8}" for n in range(6)]
EXAMPLES = [Example(d, q, f"value{n}") for n, (d, q) in enumerate(zip(DOCUMENTS, QUESTIONS, strict=True))]


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return reader(0, width=32, layers=2)


@pytest.fixture
def cmt(lm: CausalLM) -> CMT:
    return CMT(lm, tokens=2, rank=4, key_dim=8, top_k=3, max_document=32)


@pytest.fixture(scope="module")
def smollm2() -> CausalLM:
    return CausalLM.load()


def test_what_is_read_is_the_weighted_sum_of_the_best_memories(cmt: CMT, lm: CausalLM) -> None:
    cubes = cmt.write(DOCUMENTS)
    with torch.no_grad():
        for n, question in enumerate(QUESTIONS):
            found = cmt.read(QUESTIONS)
            queries = cmt.compressor.ask([lm.encode(question)]).queries
            scores = objective.scores(queries, cmt.bank.keys, cmt.compressor.temperature)
            places, weights = objective.choose(scores, 3)
            wanted = sum(w * cmt.bank.memories([p])[0] for p, w in zip(places[0].tolist(), weights[0], strict=True))
            torch.testing.assert_close(found.prefix[n], wanted, rtol=1e-4, atol=1e-5)
            named = dict(zip(found.memories[n], found.weights[n].tolist(), strict=True))
            assert named == pytest.approx(
                {cubes[p].id: w for p, w in zip(places[0].tolist(), weights[0].tolist(), strict=True)}, abs=1e-5
            )
            assert found.weights[n].tolist() == sorted(found.weights[n].tolist(), reverse=True)


def test_one_question_reads_like_many_and_documents_at_once_are_written_like_one_by_one(cmt: CMT) -> None:
    at_once = cmt.write(DOCUMENTS)
    together, alone = cmt.read(QUESTIONS), cmt.read(QUESTIONS[2])
    torch.testing.assert_close(alone.prefix[0], together.prefix[2], rtol=1e-4, atol=1e-5)
    one_by_one = [cmt.write([document])[0] for document in DOCUMENTS]
    for one, two in zip(at_once, one_by_one, strict=True):
        a, b = (cube.payload.tensors["memory"].torch().float() for cube in (one, two))  # type: ignore[union-attr]
        torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-4)


def test_an_answer_is_the_models_own_greedy_reply_after_the_prefix(cmt: CMT, lm: CausalLM) -> None:
    cmt.write(DOCUMENTS)
    answer = cmt.generate(QUESTIONS[0], max_tokens=3)
    ids = lm.encode(QUESTIONS[0])
    found = cmt.read(QUESTIONS[0])
    with torch.no_grad():
        for _ in range(3):
            ids.append(int(next_logits(lm, found.prefix, [ids]).argmax()))
    assert answer.text == lm.decode(ids[-3:])
    assert answer.sources == found.sources[0]
    assert sum(answer.weights) == pytest.approx(1, abs=1e-5)


def test_provenance_names_the_text_its_version_and_its_scope(cmt: CMT) -> None:
    text = MemCube(Header(scope=Scope(user="ada"), version=1), TextPayload(DOCUMENTS[0]))
    with_cube, plain = cmt.write([text, DOCUMENTS[1]], scope=Scope(user="bob"))
    assert with_cube.header.kind == "activation"
    assert with_cube.header.lineage.derived_from == ((text.id, 1),)
    assert with_cube.header.scope.user == "ada"
    (source,) = with_cube.header.provenance.sources
    assert (source.id, source.start, source.end) == (text.id, 0, len(DOCUMENTS[0]))
    assert plain.header.scope.user == "bob"
    assert plain.header.lineage.derived_from == ()
    assert {*cmt.read(QUESTIONS[0], k=2).sources[0]} == {text.id, plain.header.provenance.sources[0].id}


def test_a_long_document_becomes_several_memories_of_one_source(cmt: CMT) -> None:
    long = " ".join(DOCUMENTS * 3)  # 90 tokens of 32 at once
    cubes = cmt.write([long, DOCUMENTS[0]])
    spans = [cube.header.provenance.sources[0] for cube in cubes[:-1]]
    assert len(spans) == 3
    assert len({span.id for span in spans}) == 1
    assert " ".join(long[span.start : span.end] for span in spans) == long
    assert cmt.remove(spans[0].id) == [cube.id for cube in cubes[:-1]]
    assert [header.id for header in cmt.bank.headers] == [cubes[-1].id]


def test_stretches_of_one_document_do_not_outdate_each_other(cmt: CMT) -> None:
    twice = " ".join([*[DOCUMENTS[0]] * 6, "filler1", "filler2"] * 2)  # two equal stretches of 32
    cmt.write([twice])
    found = cmt.read(QUESTIONS[0], k=2)
    assert found.weights[0].tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    cmt.write([DOCUMENTS[0], DOCUMENTS[0]])  # two documents do
    newest, older = cmt.read(QUESTIONS[0], k=2).weights[0].tolist()
    assert newest > 0.95 > older


def test_a_deleted_memory_is_never_read_again(cmt: CMT) -> None:
    cubes = cmt.write(DOCUMENTS)
    best = cmt.read(QUESTIONS[0]).memories[0][0]
    assert cmt.remove(best) == [best]
    assert len(cmt.bank) == len(cubes) - 1
    assert best not in cmt.read(QUESTIONS[0], k=5).memories[0]
    with pytest.raises(NotFound):
        cmt.remove(best)


def test_bad_arguments_are_refused_and_nothing_is_written(cmt: CMT, lm: CausalLM) -> None:
    for empty in ("", "  \n"):
        with pytest.raises(InvalidInput, match=r"documents\[1\]=.* holds no text"):
            cmt.write([DOCUMENTS[0], empty])
    assert len(cmt.bank) == 0
    with pytest.raises(InvalidInput, match="the bank is empty"):
        cmt.read(QUESTIONS[0])
    cmt.write(DOCUMENTS[:2])
    with pytest.raises(InvalidInput, match="must not be empty"):
        cmt.read("", k=1)
    with pytest.raises(InvalidInput, match="k=0"):
        cmt.read(QUESTIONS[0], k=0)
    with pytest.warns(UserWarning, match="k=9 is more than the 2 memories"):
        assert cmt.read(QUESTIONS[0], k=9).weights.shape == (1, 2)
    with pytest.raises(InvalidInput, match="fit first, then write"):
        cmt.fit(EXAMPLES, steps=1, batch=2)
    with pytest.raises(InvalidInput, match="max_document=256"):
        CMT(lm, tokens=2, max_document=256)
    with pytest.raises(InvalidInput, match=r"aggregate='mean' must be one of"):
        CMT(lm, tokens=2, aggregate="mean", max_document=32)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"question=\[\] must not be empty"):
        cmt.read([])
    with pytest.raises(InvalidInput, match="top_k=0"):
        CMT(lm, tokens=2, top_k=0, max_document=32)


def test_fitting_makes_a_new_compressor_that_refuses_the_old_ones_memories(cmt: CMT) -> None:
    old, version = cmt.write(DOCUMENTS), cmt.version
    for cube in old:
        cmt.remove(cube.id)
    log = cmt.fit(endless(EXAMPLES), steps=30, batch=6, lr=3e-3)
    assert log.losses[-1] < log.losses[0]
    assert cmt.version != version
    with pytest.raises(FingerprintMismatch, match=f"written by compressor {version}, this is {cmt.version}"):
        cmt.bank.extend(old)


def test_a_fitted_memory_adds_what_the_model_cannot_know(cmt: CMT) -> None:
    before = cmt.gain(EXAMPLES)
    cmt.fit(endless(EXAMPLES), steps=60, batch=6, lr=5e-3, weights=Objective())
    assert cmt.gain(EXAMPLES) > before + 0.5


def test_a_fit_that_fails_leaves_a_bank_for_what_the_compressor_has_become(cmt: CMT) -> None:
    before = cmt.version
    with pytest.raises(InvalidInput, match="ran out in step 1"):
        cmt.fit(EXAMPLES, steps=2, batch=6, lr=1e-2)
    assert cmt.version != before
    written = cmt.write(DOCUMENTS[:1])[0].payload
    assert isinstance(written, TensorPayload)
    assert written.fingerprint.weights.endswith(cmt.version)


def test_examples_that_are_too_long_are_refused_as_whole(cmt: CMT) -> None:
    long = Example(" ".join(DOCUMENTS * 2), "ask first1", "value1")  # 60 tokens of at most 32
    with pytest.raises(InvalidInput, match=r"has 60 tokens, over max_document=32"):
        cmt.fit([*EXAMPLES, long], steps=1, batch=7)
    with pytest.raises(InvalidInput, match=r"has 60 tokens"):
        cmt.gain([long])
    with pytest.raises(InvalidInput, match="more than 256 with its question and answer"):
        cmt.gain([Example(DOCUMENTS[0], "ask " * 300, "value1")])
    with pytest.raises(InvalidInput, match="examples is empty"):
        cmt.gain([])


def test_threads_that_write_remove_and_read_always_see_a_whole_bank(cmt: CMT) -> None:
    cmt.write(DOCUMENTS)

    def churn(number: int) -> None:
        for _ in range(6):
            (cube,) = cmt.write([DOCUMENTS[number]])
            cmt.remove(cube.id)

    def ask(number: int) -> list[str]:
        found = [cmt.read(QUESTIONS[number], k=4) for _ in range(12)]
        return [f"{len(set(one.memories[0]))} {float(one.weights.sum()):.3f}" for one in found]

    with ThreadPoolExecutor(4) as pool:
        churning = [pool.submit(churn, n) for n in range(2)]
        asking = [pool.submit(ask, n) for n in range(2)]
        assert all(future.result() is None for future in churning)
        assert {line for future in asking for line in future.result()} == {"4 1.000"}
    assert len(cmt.bank) == 6


def test_cross_attention_learns_keeps_its_setting_and_reads_what_the_sum_cannot(lm: CausalLM) -> None:
    cmt = CMT(lm, tokens=2, rank=4, key_dim=8, top_k=3, aggregate="cross_attention", max_document=32)
    log = cmt.fit(endless(EXAMPLES), steps=60, batch=6, lr=5e-3)
    assert sum(log.losses[-5:]) < 0.7 * sum(log.losses[:5])
    cmt.write(DOCUMENTS)
    found = cmt.read(QUESTIONS)
    for n in range(6):
        places = [[header.id for header in cmt.bank.headers].index(id) for id in found.memories[n]]
        asked = cmt.compressor.ask([lm.encode(QUESTIONS[n])])
        with torch.no_grad():
            wanted = cmt.compressor.combine(
                asked, cmt.bank.memories(places), torch.arange(3)[None], found.weights[n : n + 1]
            )
        torch.testing.assert_close(found.prefix[n], wanted[0], rtol=1e-3, atol=1e-4)
    again = CMT.from_cube(lm, cube_file.loads(cube_file.dumps(cmt.cube())))
    assert (again.aggregate, again.version) == ("cross_attention", cmt.version)
    assert again.compressor.attention is not None
    again.bank.extend(cmt.bank.cubes())
    assert torch.equal(again.read(QUESTIONS).prefix, found.prefix)
    assert cmt.generate(QUESTIONS[0], max_tokens=1).sources == found.sources[0]


def test_a_compressed_bank_is_read_written_and_deleted_from_as_before(cmt: CMT) -> None:
    cmt.write(DOCUMENTS)
    before = cmt.read(QUESTIONS)
    cmt.bank = cmt.bank.compress(512)  # a code for each of its 12 tokens: nothing is lost
    after = cmt.read(QUESTIONS)
    assert after.memories == before.memories
    torch.testing.assert_close(after.prefix, before.prefix)
    (cube,) = cmt.write(["filler9 first9 last9 attribute1 value9"])
    assert cmt.bank.cube(cube.id).payload == cube.payload
    cmt.remove(cube.id)
    assert cmt.remove(before.memories[0][0]) == [before.memories[0][0]]
    assert before.memories[0][0] not in cmt.read(QUESTIONS[0], k=5).memories[0]


def test_a_compressor_goes_through_a_file_and_its_memories_with_it(cmt: CMT, lm: CausalLM) -> None:
    cmt.fit(endless(EXAMPLES), steps=3, batch=6, lr=3e-3)
    cubes = cmt.write(DOCUMENTS)
    again = CMT.from_cube(lm, cube_file.loads(cube_file.dumps(cmt.cube())))
    assert (again.version, again.top_k, again.max_document) == (cmt.version, 3, 32)
    again.bank.extend(cube_file.loads(cube_file.dumps(cube)) for cube in cubes)
    assert torch.equal(again.read(QUESTIONS).prefix, cmt.read(QUESTIONS).prefix)
    with pytest.raises(FingerprintMismatch, match="belongs to another model"):
        CMT.from_cube(reader(1, width=32, layers=2), cmt.cube())
    for cube in (cubes[0], MemCube(Header(), TextPayload("x"))):
        with pytest.raises(InvalidInput, match="is no compressor"):
            CMT.from_cube(lm, cube)


def test_texts_are_taken_in_parts_without_a_gap() -> None:
    assert [len(part) for part in _parts(range(70))] == [32, 32, 6]
    assert list(itertools.chain(*_parts(range(70)))) == list(range(70))


def test_the_seed_is_in_the_version_and_equal_ones_agree(lm: CausalLM) -> None:
    one, two, other = (CMT(lm, tokens=2, max_document=32, seed=seed) for seed in (0, 0, 1))
    assert one.version == two.version != other.version


@pytest.mark.model
def test_smollm2_is_written_to_read_from_and_never_changed(smollm2: CausalLM) -> None:
    cmt = CMT(smollm2, tokens=4, rank=4, key_dim=16, top_k=2, max_document=64)
    probe = torch.tensor([smollm2.encode("The lighthouse keeper of Vardo")])
    with torch.no_grad():
        logits = smollm2.model(probe).logits
    examples = [
        Example("Ada Brekke keeps the lighthouse of Vardo.", "Who keeps the lighthouse?", " Ada Brekke"),
        Example("The ferry to Kirkwall leaves at seven.", "When does the ferry leave?", " at seven"),
    ]
    log = cmt.fit(endless(examples), steps=3, batch=2, lr=5e-3)
    assert log.losses[2] < log.losses[0]
    assert all(parameter.grad is not None for parameter in cmt.compressor.parameters())
    assert all(parameter.grad is None for parameter in smollm2.model.parameters())
    cubes = cmt.write([example.document for example in examples])
    found = cmt.read([example.question for example in examples])
    assert found.prefix.shape == (2, 4, 576)
    assert cmt.bank.nbytes == 2 * 2 * (4 * 576 + 16)
    assert {*found.memories[0]} == {cube.id for cube in cubes}
    answer = cmt.generate(examples[0].question, max_tokens=4)
    assert {*answer.sources} == {cube.header.provenance.sources[0].id for cube in cubes}
    assert cmt.remove(answer.sources[0])
    with torch.no_grad():
        assert torch.equal(smollm2.model(probe).logits, logits)
