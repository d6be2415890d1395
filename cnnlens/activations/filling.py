"""Computing the blocks of some stores: those that are missing, and of these one process's share.

Blocks are fixed ranges of images, whoever computes them, so that any number of processes may go on
from what any other number has left, and the stores come out the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from cnnlens.activations.chunks import block_size
from cnnlens.activations.passes import Forward, Pass, passes
from cnnlens.activations.store import StoreKey
from cnnlens.activations.writer import StoreWriter
from cnnlens.data.batches import check_classes, check_skipped
from cnnlens.data.dataset import ImageSet
from cnnlens.distributed import Share
from cnnlens.progress import Step
from cnnlens.settings import RunSettings


@contextmanager
def writing(
    places: Sequence[tuple[Path, StoreKey, tuple[int, int, int]]],
    images: ImageSet,
    forward: Forward,
    share: Share,
    force: bool,
) -> Iterator[list[StoreWriter]]:
    """Open the writers of some stores: where each stands, its key, (C, H, W).

    Whoever joins them keeps other runs away; who computes a share of their blocks does not.
    """
    alone, size = share.leads and not share.is_apart, block_size(forward.limit)
    count, head = len(images.paths), forward.model.head
    with ExitStack() as stack:
        writers = []
        for place in places:
            one = StoreWriter(*place, count, size, forward.logits, head, alone, force)
            writers.append(stack.enter_context(closing(one)))
        yield writers


def fill(
    writers: list[StoreWriter],
    images: ImageSet,
    forward: Forward,
    run: RunSettings,
    share: Share,
) -> Iterator[Step]:
    """Compute the blocks that are this share's; join all, where that is this process's part."""
    missing, skipped = share.from_first(lambda: _missing(writers))
    blocks = writers[0].blocks
    mine = share.of_items(missing) if share.joined else share.of_numbers(missing)
    todo = sum(len(blocks[number]) for number in (missing if share.joined else mine))
    done = len(images.paths) - sum(len(blocks[number]) for number in missing)
    tally = _Tally(share, writers[0].path.name, done, done + todo, forward)
    yield tally.step(0)
    yield from _compute(forward, images, writers, mine, skipped, run, tally)
    for _ in share.wait():
        yield tally.step(0)
    if share.leads and not share.is_apart:
        join_blocks(writers, images)
    for _ in share.wait():
        yield tally.step(0)
    if not share.is_apart:
        for writer in writers:
            writer.see()


class _Tally:
    """How far all processes of a run are with some stores."""

    def __init__(self, share: Share, name: str, done: int, total: int, forward: Forward) -> None:
        self._share, self._name, self._forward = share, name, forward
        self._done, self._total, self._mine = done, total, 0

    def step(self, more: int) -> Step:
        """Count images that are done."""
        self._mine += more
        every = self._share.count(self._name, more) if self._share.joined else self._mine
        return Step(self._done + every, self._total, "extracting", self._forward.limit)


def _missing(writers: list[StoreWriter]) -> tuple[list[int], list[tuple[str, str]]]:
    """Blocks that one of the stores lacks, and the damaged images of the others."""
    there = [writer.found() for writer in writers]
    missing = [n for n in range(len(writers[0].blocks)) if any(n not in one for one in there)]
    gone = {*missing}
    return missing, [one for n, some in there[0].items() if n not in gone for one in some]


def _compute(
    forward: Forward,
    images: ImageSet,
    writers: list[StoreWriter],
    mine: Sequence[int],
    skipped: Sequence[tuple[str, str]],
    run: RunSettings,
    tally: _Tally,
) -> Iterator[Step]:
    blocks = [writers[0].blocks[number] for number in mine]
    numbers, reached = iter(mine), 0
    number = next(numbers, 0)
    with ThreadPoolExecutor(max_workers=1) as pool:  # compresses while the next batch is computed
        last: Future[None] | None = None
        for one in passes(
            forward,
            images,
            batch_size=forward.limit,
            workers=run.workers,
            blocks=blocks,
            skipped=skipped,
        ):
            if last is not None:
                last.result()
            last = pool.submit(_add, writers, number, one)
            if one.batch.ends:
                number = next(numbers, 0)
            yield tally.step(one.batch.next - reached)
            reached = one.batch.next
        if last is not None:
            last.result()


def _add(writers: list[StoreWriter], number: int, one: Pass) -> None:
    batch = one.batch
    for writer, values in zip(writers, one.maps, strict=True):
        writer.add(number, batch.indices, values, one.logits, batch.skipped, batch.ends)


def join_blocks(writers: Sequence[StoreWriter], images: ImageSet) -> None:
    """Make stores of their blocks, all of which are there or about to be seen.

    Raises
    ------
    CnnlensError
        When too many images are damaged, over all blocks.
    """
    for writer in writers:
        skipped = writer.complete()
        check_skipped(skipped, len(images.paths))
        check_classes(images, skipped)
        writer.finish(images.paths, images.image_categories, skipped)
