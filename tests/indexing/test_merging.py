from tidegate.indexing.merging import FAN_IN, SegmentSize, segments_to_merge


def test_few_segments_are_left_alone() -> None:
    assert segments_to_merge([SegmentSize(5, 5)] * (FAN_IN - 1)) == []
    assert segments_to_merge([]) == []


def test_a_class_that_is_full_is_merged_and_larger_segments_stay() -> None:
    sizes = [SegmentSize(100_000, 100_000), *[SegmentSize(20, 20)] * FAN_IN]
    assert segments_to_merge(sizes) == list(range(1, FAN_IN + 1))


def test_a_segment_with_much_garbage_is_rewritten_alone() -> None:
    assert segments_to_merge([SegmentSize(100, 100), SegmentSize(59, 100), SegmentSize(60, 100)]) == [1]
    assert segments_to_merge([SegmentSize(0, 3)]) == [0]


def test_a_hundred_small_refreshes_leave_few_segments_and_write_little() -> None:
    """Size-tiered: the corpus is rewritten seldom, and what is written stays near the size of the changes."""
    corpus, change = 10_000, 100
    segments = [SegmentSize(corpus, corpus)]
    written = most = 0
    for _ in range(100):
        segments[0] = SegmentSize(max(segments[0].live - change, 0), segments[0].stored)
        chosen = segments_to_merge(segments)
        merged = change + sum(segments[at].live for at in chosen)
        segments = [size for at, size in enumerate(segments) if at not in chosen] + [SegmentSize(merged, merged)]
        segments.sort(key=lambda size: -size.stored)
        written += merged
        most = max(most, len(segments))
    assert sum(size.live for size in segments) == corpus
    assert most <= 2 * FAN_IN
    assert written <= 6 * corpus
