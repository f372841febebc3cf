"""Generates the Python stubs and proto/api.binpb from proto/, in the generator's own environment.

The rules of buf/validate are option bytes to everybody but the server's validator. Their import is dropped
before the stubs are made, so that the light client needs no validator; the bytes stay in the descriptors.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "tokendance/gateway"
VALIDATE = "buf/validate/validate.proto"
# The mark by which Buf's images tell imported files from the input's own: field 8042 of FileDescriptorProto,
# holding is_import = true. Other readers skip it; `buf lint` and `buf generate` leave marked files alone.
BUF_IMPORT_MARK = FileDescriptorProto.FromString(b"\xd2\xf6\x03\x02\x08\x01")
PACKAGE_DOCS = {
    "tokendance/gateway/__init__.py": '"""The gateway\'s API, one package per version."""\n',
    "tokendance/gateway/v1/__init__.py": '"""Messages and stubs of version 1, generated from proto/."""\n',
}


class GenerationError(Exception):
    """protoc refused the sources; the message is what it printed."""


def own_files(proto_root: Path) -> list[str]:
    """Lists the .proto files of our package below `proto_root`, sorted, as protoc names them."""
    return sorted(path.relative_to(proto_root).as_posix() for path in (proto_root / PACKAGE).rglob("*.proto"))


def validate_descriptor() -> FileDescriptorProto:
    """Reads the descriptor of buf/validate out of the validator's wheel; none ships it as a .proto file."""
    from protovalidate._gen.buf.validate import validate_pb

    return FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary())


def without_validate(full: FileDescriptorSet) -> FileDescriptorSet:
    """Returns a copy of `full` without imports of buf/validate; its rules remain as unknown option bytes."""
    kept = FileDescriptorSet()
    for file in full.file:
        if file.name == VALIDATE:
            continue
        copy = kept.file.add()
        copy.CopyFrom(file)
        stays = [index for index, name in enumerate(file.dependency) if name != VALIDATE]
        copy.dependency[:] = [file.dependency[index] for index in stays]
        # These two point into the list of dependencies by position.
        copy.public_dependency[:] = [stays.index(index) for index in file.public_dependency if index in stays]
        copy.weak_dependency[:] = [stays.index(index) for index in file.weak_dependency if index in stays]
    return kept


def as_image(full: FileDescriptorSet, own: Iterable[str]) -> FileDescriptorSet:
    """Returns a copy of `full` that keeps comments for `own` files only and marks all others as imports."""
    image = FileDescriptorSet()
    names = frozenset(own)
    for file in full.file:
        copy = image.file.add()
        copy.CopyFrom(file)
        if file.name not in names:
            copy.ClearField("source_code_info")
            copy.MergeFrom(BUF_IMPORT_MARK)
    return image


def protoc(*arguments: str) -> None:
    """Runs protoc on `arguments`; raises GenerationError with its own words when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise GenerationError(done.stderr.strip() or f"protoc ended with status {done.returncode}")
    if done.stderr.strip():
        # An unused import or a name that collides is a mistake of ours, never something to live with.
        raise GenerationError(f"protoc warns:\n{done.stderr.strip()}")


def compile_descriptors(proto_root: Path, own: Sequence[str], work: Path) -> FileDescriptorSet:
    """Compiles `own` with all their imports and comments."""
    import grpc_tools

    validate = work / "validate.binpb"
    validate.write_bytes(FileDescriptorSet(file=[validate_descriptor()]).SerializeToString(deterministic=True))
    full = work / "full.binpb"
    protoc(
        f"--proto_path={proto_root}",
        f"--proto_path={sysconfig.get_path('purelib')}",
        f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
        f"--descriptor_set_in={validate}",
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={full}",
        *own,
    )
    return FileDescriptorSet.FromString(full.read_bytes())


def write_stubs(stripped: FileDescriptorSet, own: Sequence[str], work: Path, out: Path) -> None:
    """Writes messages, stubs and their types for `own` below `out`."""
    descriptors = work / "stripped.binpb"
    descriptors.write_bytes(stripped.SerializeToString(deterministic=True))
    plugins = Path(sys.executable).parent
    protoc(
        f"--descriptor_set_in={descriptors}",
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *own,
    )
    services = {file.name for file in stripped.file if file.service}
    for name in set(own) - services:
        # The plugin writes an empty module for a file without services; there is nothing in it to import.
        for leftover in (name.replace(".proto", "_pb2_grpc.py"), name.replace(".proto", "_pb2_grpc.pyi")):
            (out / leftover).unlink(missing_ok=True)
    for path, text in PACKAGE_DOCS.items():
        (out / path).write_text(text)


def generate(proto_root: Path, out: Path) -> None:
    """Writes everything that is generated below `out`: `stubs/` (the import root) and `api.binpb`."""
    own = own_files(proto_root)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        full = compile_descriptors(proto_root, own, work)
        (out / "stubs").mkdir(parents=True)
        write_stubs(without_validate(full), own, work, out / "stubs")
    (out / "api.binpb").write_bytes(as_image(full, own).SerializeToString(deterministic=True))


def tree(root: Path) -> set[str]:
    """Lists the files below `root` that a generator could have written, relative to it."""
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def differences(fresh: Path, stubs: Path, descriptors: Path) -> list[str]:
    """Names every generated file that is missing, stale or no longer generated."""
    made = tree(fresh / "stubs")
    found = {f"{PACKAGE}/{name}" for name in tree(stubs / PACKAGE)}
    changed = {name for name in made & found if not filecmp.cmp(fresh / "stubs" / name, stubs / name, shallow=False)}
    lines = [f"missing: {name}" for name in sorted(made - found)]
    lines += [f"not generated any more: {name}" for name in sorted(found - made)]
    lines += [f"differs: {name}" for name in sorted(changed)]
    if not descriptors.exists() or descriptors.read_bytes() != (fresh / "api.binpb").read_bytes():
        lines.append(f"differs: {descriptors.name}")
    return lines


def install(fresh: Path, stubs: Path, descriptors: Path) -> None:
    """Puts the generated files in place, touching only those that changed, and removes what is left over."""
    for name in sorted(tree(fresh / "stubs")):
        target = stubs / name
        if not target.exists() or not filecmp.cmp(fresh / "stubs" / name, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{os.getpid()}")
            shutil.copyfile(fresh / "stubs" / name, partial)
            partial.replace(target)
    for name in tree(stubs / PACKAGE) - {name.removeprefix(f"{PACKAGE}/") for name in tree(fresh / "stubs")}:
        (stubs / PACKAGE / name).unlink()
    shutil.copyfile(fresh / "api.binpb", descriptors)


def main(argv: Sequence[str] | None = None) -> int:
    """Generates in place, or with --check says what differs and returns 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything would change")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository; only tests give another one")
    options = parser.parse_args(argv)
    stubs = options.root / "clients" / "python"
    descriptors = options.root / "proto" / "api.binpb"
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "fresh"
        try:
            generate(options.root / "proto", fresh)
        except GenerationError as error:
            print(error, file=sys.stderr)
            return 1
        if not options.check:
            install(fresh, stubs, descriptors)
            return 0
        stale = differences(fresh, stubs, descriptors)
    for line in stale:
        print(line, file=sys.stderr)
    if stale:
        print("Generated files are out of date: run `make gen` and commit the result.", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
