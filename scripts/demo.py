"""The main job on a real mount: S3 server, bucket of photographs, s3fs-fuse, run, report.

    make demo              photographs that ship with Python packages, with planted duplicates
    make demo DATA=DIR     your own folder of images

Everything it starts (server, mounts) is stopped and unmounted at the end, also on failure. The
results are read back from the mounted output bucket and copied to demo/results/, in place of those
of the demo before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from demo_images import make_photographs

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo"
INPUT_BUCKET, OUTPUT_BUCKET = "demo-photographs", "demo-results"


def main() -> int:
    """Run the demo; return the exit code of the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of images instead of the photographs")
    parser.add_argument("--n-samples", default="0.1", help="count or fraction to select")
    arguments = parser.parse_args()
    if arguments.data is not None and not arguments.data.is_dir():
        print(f"demo: {arguments.data} is no folder; give one that holds images", file=sys.stderr)
        return 66
    missing = _missing_parts()
    if missing:
        print(f"demo: {missing}", file=sys.stderr)
        return 69
    DEMO.mkdir(exist_ok=True)
    folder = arguments.data
    if folder is None:
        folder = DEMO / "photographs"
        say(f"making a bucket's content in {_short(folder)}")
        print(f"        {make_photographs(folder)}")
    with ExitStack() as stack:
        url = stack.enter_context(s3_server())
        environ = {**os.environ, **credentials(url)}
        say(f"uploading to s3://{INPUT_BUCKET} at {url}")
        print(f"        {upload(folder, url)} objects")
        source = stack.enter_context(mounted(INPUT_BUCKET, DEMO / "s3-mount", environ, url))
        target = stack.enter_context(
            mounted(OUTPUT_BUCKET, DEMO / "s3-out", environ, url, "--profile", "output")
        )
        return run_and_show(source, target, arguments.n_samples, environ)


def run_and_show(source: Path, target: Path, n_samples: str, environ: dict[str, str]) -> int:
    """Run on the mounts, show what lies in the output bucket, copy it to demo/results."""
    words = [
        f"input_dir={source}",
        f"output_dir={target}",
        f"stopping_condition.n_samples={n_samples}",
        "run_directory=first",
    ]
    say("lightly-fs run " + " ".join(word.replace(f"{ROOT}/", "") for word in words))
    result = subprocess.run([*CLI, "run", *words], env=environ, check=False)
    if result.returncode not in (0, 9):
        return result.returncode
    directory = target / "first"
    say(f"what lies in the mounted bucket s3://{OUTPUT_BUCKET}/first")
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            print(f"        {path.stat().st_size:>9,}  {path.relative_to(directory)}")
    counts = json.loads((directory / "manifest.json").read_text())["counts"]
    results = DEMO / "results"
    if results.exists():
        say(f"replacing the results of the demo before in {_short(results)}")
        shutil.rmtree(results)
    shutil.copytree(directory, results)
    say("found")
    for name, count in counts.items():
        print(f"        {count:>9,}  {name}")
    say(f"report: {_short(results / 'report.pdf')}   gallery: {_short(results / 'report.html')}")
    return result.returncode


CLI = [sys.executable, "-m", "lightly_fs"]


def credentials(url: str) -> dict[str, str]:
    """Return the environment that reaches the demo's server."""
    return {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo-secret",
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def s3_server() -> Iterator[str]:
    """Start an S3 server on a free loopback port; yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    say(f"starting an S3 server at {url}")
    with (DEMO / "s3-server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        _wait(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"demo: the S3 server did not start, see {DEMO / 's3-server.log'}")


def upload(folder: Path, url: str) -> int:
    """Create both buckets and upload every file of `folder`; return how many."""
    import s3fs

    account = credentials(url)
    client = s3fs.S3FileSystem(
        key=account["AWS_ACCESS_KEY_ID"],
        secret=account["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=url,
        client_kwargs={"region_name": "us-east-1"},
    )
    for bucket in (INPUT_BUCKET, OUTPUT_BUCKET):
        client.call_s3("create_bucket", Bucket=bucket)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    keys = [f"{INPUT_BUCKET}/{path.relative_to(folder).as_posix()}" for path in files]
    client.put([str(path) for path in files], keys)
    return len(files)


@contextmanager
def mounted(
    bucket: str, directory: Path, environ: dict[str, str], url: str, *options: str
) -> Iterator[Path]:
    """Mount a bucket with `lightly-fs mount`; unmount it on every way out."""
    words = ["mount", bucket, str(directory), "--url", url, *options]
    say("lightly-fs " + " ".join(word.replace(f"{ROOT}/", "") for word in words))
    subprocess.run([*CLI, *words], env=environ, check=True)
    try:
        yield directory
    finally:
        subprocess.run([*CLI, "unmount", str(directory)], env=environ, check=False)


def _missing_parts() -> str | None:
    if not Path("/dev/fuse").exists():
        return "there is no /dev/fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN"
    if shutil.which("s3fs") is None:
        return "s3fs is not installed (apt-get install s3fs)"
    return None


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def say(text: str) -> None:
    """Print a step."""
    print(f"\n==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
