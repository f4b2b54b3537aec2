"""Who decodes what: threads take units of videos, ahead of the one that is being used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from fractions import Fraction

from lightly_fs.datasource.ranged import RangedReadError
from lightly_fs.decoding.images import DecodeSettings
from lightly_fs.decoding.video_file import ReadableFile, VideoError, VideoFile
from lightly_fs.decoding.video_runs import Run, Video
from lightly_fs.decoding.video_sampling import Picker, Position, Sampling
from lightly_fs.decoding.video_scaling import FrameScaler
from lightly_fs.decoding.video_unit import LostKeyframe, Row, Unit
from lightly_fs.types import Failure, Outcome, Sample

OpenFile = Callable[[Sample], ReadableFile]

SEGMENT_FRAMES = 128
"""Frames between the keyframes at which decoding may begin; the same in every process."""
_ROW_BYTES = 256 << 20
"""Pixels that wait to be used, over all threads."""
_STRIDE = 4
_LARGE_FILE = 64 << 20
"""A file that one thread alone decodes uses the other cores too from this size on."""


class _Stopped(Exception):
    """Nobody waits for this unit's frames any more."""


class Schedule:
    """Hands out units to threads and their rows to the one consumer."""

    def __init__(
        self,
        videos: Sequence[Sample],
        open_file: OpenFile,
        settings: DecodeSettings,
        sampling: Sampling,
        *,
        threads: int,
        start: Position | None,
    ) -> None:
        """Begin to decode.

        Args:
            videos: In the order in which their frames are used.
            open_file: Opens one; called from several threads.
            settings: `size`, `properties`, `max_pixels`, `batch_size` and `copy_size`.
            sampling: Which frames are used.
            threads: How many decode.
            start: Where to go on in the first of `videos`.
        """
        self._videos = [Video(v, None if number else start) for number, v in enumerate(videos)]
        self._open_file, self._settings, self._sampling = open_file, settings, sampling
        self._n_threads = threads
        row = 3 * (settings.size**2 + settings.copy_size**2)
        self._room = max(2 * settings.batch_size, _ROW_BYTES // row)
        self._stride = min(_STRIDE, max(1, self._room // (SEGMENT_FRAMES * (threads + 1))))
        self._changed = threading.Condition()
        self._head = 0
        self._head_run: Run | None = None
        self._held = 0
        self._stopped = False
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"video-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def video(self, number: int) -> Video:
        """Return a video and make it the one whose frames are used now."""
        with self._changed:
            self._head = number
            self._changed.notify_all()
            return self._videos[number]

    def take(self, video: Video, first: int | None) -> tuple[Run, list[Row]] | Failure:
        """Wait for rows of a run, and take them; none when it has ended.

        Args:
            video: The one that is used now.
            first: The segment with which the run begins; None for the video's first run.

        Raises:
            Exception: What went wrong in a thread.
        """
        with self._changed:
            while True:
                if self._error is not None:
                    raise self._error
                if video.failure is not None:
                    return video.failure
                run = video.first_run() if first is None else video.runs.get(first)
                self._head_run = run
                if run is not None and (run.rows or run.ended):
                    rows = list(run.rows)
                    run.rows.clear()
                    self._held -= len(rows)
                    self._changed.notify_all()
                    return run, rows
                self._changed.notify_all()
                self._changed.wait()

    def leave(self, video: Video) -> None:
        """Forget a video that is used up."""
        with self._changed:
            video.left, video.shared = True, False
            for run in video.runs.values():
                if not run.void:
                    self._held -= video.void(run)
            self._changed.notify_all()
            unread = not video.readers
        if unread and video.file is not None:
            video.file.close()

    def close(self) -> None:
        """End all threads."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for video in self._videos[self._head :]:
            if video.file is not None:
                video.file.close()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        """Decode unit after unit; what a thread is decoding stays open for the next one."""
        scaler = FrameScaler(self._settings)
        opened: tuple[Video, VideoFile] | None = None
        try:
            while (task := self._next()) is not None:
                video, run = task
                if opened is not None and opened[0] is not video:
                    opened[1].close()
                    opened = None
                file = self._opened(video) if opened is None else opened[1]
                if file is None:
                    continue
                opened = video, file
                run = run or self._divided(video, file)
                if run is not None:
                    self._decode(video, run, file, scaler)
        except BaseException as error:  # noqa: BLE001 - it is raised where the frames are used
            self._fail(error)
        finally:
            if opened is not None:
                opened[1].close()

    def _next(self) -> tuple[Video, Run | None] | None:
        """Wait for a video to open or a run to decode; None when everything is over."""
        with self._changed:
            while not self._stopped:
                ahead = self._videos[self._head : self._head + self._n_threads + 1]
                for video in ahead:
                    if not video.taken:
                        video.taken = True
                        return video, None
                    number = self._free_segment(video)
                    if number is not None:
                        run = Run(number)
                        video.owners[number] = video.runs[number] = run
                        return video, run
                self._changed.wait()
            return None

    def _free_segment(self, video: Video) -> int | None:
        """Return a segment behind the started ones, a few apart: each can go on into the next."""
        if not video.shared or video.failure is not None:
            return None
        started = max(video.runs, default=0)
        for number in range(started + self._stride, len(video.owners), self._stride):
            if video.owners[number] is None and number not in video.lost:
                return number
        return None

    def _opened(self, video: Video) -> VideoFile | None:
        """Open a container; None when it cannot be."""
        try:
            if video.file is None:
                video.file = self._open_file(video.sample)
            return VideoFile(video.file, threads=1, max_pixels=self._settings.max_pixels)
        except (VideoError, RangedReadError) as error:
            self._lose(video, error.outcome, error.reason)
            return None

    def _divided(self, video: Video, file: VideoFile) -> Run | None:
        """Divide a video that was just opened into segments; return the run that begins it."""
        try:
            entries = file.entries(SEGMENT_FRAMES / float(file.frame_rate or 25))
        except VideoError as error:
            self._lose(video, error.outcome, error.reason)
            return None
        alone = not entries or not self._sampling.is_all
        large = self._videos[-1] is video or video.sample.size >= _LARGE_FILE
        # What threads of one decoder guess is never the same, and not always told. Where nothing
        # tells a file whole, one thread decodes it.
        if alone and large and entries:
            file.use_threads(self._n_threads)
        first = 0
        if video.start is not None:
            pts = video.start.pts
            first = sum(1 for entry in entries if entry.timestamp <= pts)
        with self._changed:
            video.entries, video.time_base = entries, file.time_base
            run = Run(first)
            video.owners = [None] * (len(entries) + 1)
            video.owners[: first + 1] = [run] * (first + 1)
            video.runs[first] = run
            video.shared = not alone
            self._changed.notify_all()
        return run

    def _decode(self, video: Video, run: Run, file: VideoFile, scaler: FrameScaler) -> None:
        """Decode a unit to its end, and say how it ended."""
        with self._changed:
            if video.left:
                return
            video.readers += 1
        try:
            self._decode_unit(video, run, file, scaler)
        finally:
            with self._changed:
                video.readers -= 1
                unread = video.left and not video.readers
            if unread and video.file is not None:
                video.file.close()

    def _decode_unit(self, video: Video, run: Run, file: VideoFile, scaler: FrameScaler) -> None:
        begins = run is video.first_run()
        file.problems.clear()
        unit = Unit(
            video=file,
            scale=scaler.scale,
            picker=self._picker(file),
            entries=video.entries,
            first=run.first,
            start=video.start if begins else None,
            meet=lambda number, pts, digest: self._meets(video, run, number, (pts, digest)),
        )
        try:
            for row in unit.rows():
                self._put(run, row)
            self._ended(video, run, unit)
        except _Stopped:
            pass
        except LostKeyframe:
            self._lost_keyframe(video, run, begins=begins)
        except (VideoError, RangedReadError) as error:
            if not run.void:
                self._lose(video, error.outcome, error.reason)
        except MemoryError:
            self._lose(video, Outcome.FAILED, "not enough memory to decode the video")
        except Exception:
            if not (run.void or self._stopped):
                raise

    def _picker(self, file: VideoFile) -> Picker:
        rate = file.frame_rate or Fraction(25)
        return Picker(self._sampling, file.time_base, rate, file.stream.start_time or 0)

    def _put(self, run: Run, row: Row) -> None:
        """Hand over a row as soon as there is room: the run that is used now needs little."""
        with self._changed:
            if run.opening is None:
                digest = b"" if isinstance(row.scaled, str) else row.scaled.pixel_hash
                run.opening = row.pts, digest
                self._changed.notify_all()
            while not (run.void or self._stopped or self._has_room(run)):
                self._changed.wait()
            if run.void or self._stopped:
                raise _Stopped
            run.rows.append(row)
            self._held += 1
            if run is self._head_run:
                self._changed.notify_all()

    def _has_room(self, run: Run) -> bool:
        if self._held < self._room:
            return True
        return run is self._head_run and len(run.rows) < self._settings.batch_size

    def _meets(
        self, video: Video, run: Run, number: int, key: tuple[int, Callable[[], bytes]]
    ) -> bool:
        """Tell whether a run ends at a segment: another one has begun there, and agrees."""
        with self._changed:
            self._pass_over(video, run, number)
            if video.owners[number] in (None, run):
                video.owners[number] = run
                return run.void
        opening = key[0], key[1]()
        with self._changed:
            other = video.owners[number]
            while other is not None and other.opening is None and not self._over(video, other):
                self._changed.wait()
            other = video.owners[number]
            if other is not None and other.first == number and other.opening == opening:
                return True
            if other is not None:
                self._held -= video.void(other)
            video.owners[number] = run
            self._changed.notify_all()
            return False

    def _over(self, video: Video, run: Run) -> bool:
        return run.void or run.ended or self._stopped or video.failure is not None

    def _pass_over(self, video: Video, run: Run, number: int) -> None:
        """Void what others decode of segments that a run has left behind without meeting them."""
        for passed in range(run.first, number):
            other = video.owners[passed]
            if other is not None and other is not run:
                self._held -= video.void(other)
            video.owners[passed] = run

    def _ended(self, video: Video, run: Run, unit: Unit) -> None:
        with self._changed:
            if unit.ended_at is None and not run.void:
                self._pass_over(video, run, len(video.owners))
                seconds = None if unit.last_pts is None else float(unit.last_pts * video.time_base)
                video.end_problem = unit.video.problem(seconds)
                video.facts = unit.video.facts(video.sample.filename)
            unit.container_problems = (*unit.video.problems,)
            run.unit, run.ended = unit, True
            self._changed.notify_all()

    def _lost_keyframe(self, video: Video, run: Run, *, begins: bool) -> None:
        if begins:
            at = "" if video.start is None else f" at frame {video.start.index:,}"
            self._lose(video, Outcome.FAILED, f"cannot go on{at}: the video is not the same")
            return
        with self._changed:
            self._held -= video.void(run)
            self._changed.notify_all()

    def _lose(self, video: Video, outcome: Outcome, reason: str) -> None:
        with self._changed:
            video.failure = video.failure or Failure(video.sample.filename, outcome, reason)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
