"""Files of tensors: safetensors, and PyTorch's state dicts to read.

Nothing in them is executed.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from dff_edge.errors import CheckpointError, SinkError
from dff_edge.files.atomic import write_atomically
from dff_edge.files.documents import parse_json
from dff_edge.files.regular import open_regular, read_regular

MAX_WEIGHT_BYTES = 8 << 30  # of a file: the largest published ones have less than 1 GB


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> str:
    """Write tensors as safetensors, atomically.

    Returns:
        SHA-256 of the file, hexadecimal.

    Raises:
        CheckpointError: it cannot be written.
    """
    content = packed(tensors, metadata)
    write_file(path, content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file of ``write_tensors``, with its metadata.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    content = read_weights(path)
    tensors = unpacked(content, path)
    (length,) = struct.unpack_from("<Q", content)
    header = parse_json(content[8 : 8 + length], str(path), error=CheckpointError)
    return tensors, header.get("__metadata__", {})


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors`` or a PyTorch file; nothing in it is executed.

    Raises:
        CheckpointError: when it is missing, damaged, or holds more than tensors.
    """
    if path.suffix == ".safetensors":
        return unpacked(read_weights(path), path)
    try:
        with open_regular(path, max_bytes=MAX_WEIGHT_BYTES, error=CheckpointError) as file:
            _refuse_compressed(file, path)
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch state dict: it is damaged, or holds more than "
            f"tensors and plain values{f' ({found[1]})' if found else ''}, and nothing in a file "
            "is executed. Where you trust it, load it yourself and save its state dict alone."
        ) from error
    except Exception as error:  # torch raises many types for damaged files
        raise CheckpointError(f"{path} cannot be read as a PyTorch state dict: {error}") from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds {type(loaded).__name__}, expected a dict of tensors.")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} holds {type(value).__name__} as {name!r}, expected names with tensors."
            )
        if not _is_plain(value):
            raise CheckpointError(
                f"{path}: {name} ({value.dtype}) is sparse, quantised, complex, or announces more "
                "numbers than are stored, expected an ordinary array."
            )
    return loaded


def _refuse_compressed(file: BinaryIO, path: Path) -> None:
    """Raise for a compressed archive: torch's are not, and a small one can fill the memory."""
    if zipfile.is_zipfile(file):
        for entry in zipfile.ZipFile(file).infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > MAX_WEIGHT_BYTES:
                raise CheckpointError(
                    f"{path} is a compressed archive, expected one as torch.save writes it."
                )
    file.seek(0)


def _is_plain(value: Tensor) -> bool:
    """Return whether a tensor is as large as its storage: a small file can announce terabytes."""
    return (
        value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested or value.is_complex())
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def packed(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return the bytes of a safetensors file; tensors that share memory are stored one by one."""
    seen: set[int] = set()
    own = {}
    for name, value in tensors.items():
        value = value.cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        own[name] = value.clone() if storage in seen else value  # no shared memory
        seen.add(storage)
    return bytes_of(own, metadata)


def unpacked(content: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file's bytes.

    Args:
        content: the bytes.
        path: of the file, for messages.

    Raises:
        CheckpointError: they are damaged.
    """
    try:
        return tensors_of(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    except ValueError as error:  # shapes that do not match the data
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error
    except KeyError as error:  # a type of the format that torch lacks
        raise CheckpointError(
            f"{path} holds numbers of type {error}, which torch lacks."
        ) from error


def read_weights(path: Path) -> bytes:
    """Return the bytes of a file of weights.

    Raises:
        CheckpointError: it is missing, no regular file, or larger than ``MAX_WEIGHT_BYTES``.
    """
    return read_regular(path, max_bytes=MAX_WEIGHT_BYTES, error=CheckpointError)


def make_folder(path: Path) -> None:
    """Create a folder where it is missing, with those above it.

    Raises:
        CheckpointError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"The folder {path} cannot be made: {error.strerror}. Give another one."
        ) from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        write_atomically(path, content)
    except SinkError as error:
        raise CheckpointError(str(error)) from error
