"""The product store: immutable revisions, one of which is current.

``ROOT/<product>/<revision>/`` holds a bundle each; ``ROOT/<product>/current`` is a symbolic link
to the active one, ``previous`` to the one that was active before. Links are replaced atomically,
so a reader sees the old revision or the new one, never neither.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inspectd.core.bundle import Bundle, open_bundle
from inspectd.core.errors import ProductError

PRODUCT_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
REVISION_NAME = re.compile(r"r(\d{4,})-[0-9a-f]{8}")


class ProductStore:
    """All products below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def products(self) -> list[str]:
        """Names of the products that have a revision."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if self._is_product(path))

    def revisions(self, product: str) -> list[str]:
        """Names of a product's revisions, oldest first."""
        folder = self._folder(product)
        if not folder.is_dir():
            return []
        names = [path.name for path in folder.iterdir() if REVISION_NAME.fullmatch(path.name)]
        return sorted(names, key=_number)

    def current(self, product: str) -> str:
        """The active revision's name.

        Raises:
            ProductError: the product has none.
        """
        name = self._linked(product, "current")
        if name is None:
            known = ", ".join(self.products()) or "none yet"
            raise ProductError(
                f"product {product!r} has no active revision below {self.root} (products: "
                f"{known}); make one with: inspectd calibrate --product {product} --images DIR"
            )
        return name

    def previous(self, product: str) -> str | None:
        """The revision that was active before, if any."""
        return self._linked(product, "previous")

    def open(self, product: str, revision: str | None = None) -> Bundle:
        """Opens and checks a revision, the active one by default.

        Raises:
            ProductError: there is none of that name.
            BundleError: it can't be used.
        """
        return open_bundle(self.path(product, revision or self.current(product)))

    def path(self, product: str, revision: str) -> Path:
        """Where a revision lies.

        Raises:
            ProductError: there is none of that name.
        """
        if revision not in self.revisions(product):
            known = ", ".join(self.revisions(product)) or "none"
            raise ProductError(f"product {product!r} has no revision {revision!r} (has: {known})")
        return self._folder(product) / revision

    def activate(self, product: str, revision: str) -> str | None:
        """Makes a revision the active one; returns the one that was active before.

        Raises:
            ProductError, BundleError: it doesn't exist or is damaged; nothing is changed.
        """
        open_bundle(self.path(product, revision))
        before = self._linked(product, "current")
        if before is not None and before != revision:
            self._link(product, "previous", before)
        self._link(product, "current", revision)
        return before

    def rollback(self, product: str) -> str:
        """Makes the formerly active revision active again and returns its name.

        Raises:
            ProductError: there is no former one.
        """
        before = self.previous(product)
        if before is None:
            raise ProductError(f"product {product!r} has no earlier active revision to go back to")
        self.activate(product, before)
        return before

    def next_revision(self, product: str, digest: str) -> str:
        """A name for a new revision: a running number and 8 hex digits of its content."""
        revisions = self.revisions(product)
        return f"r{(_number(revisions[-1]) if revisions else 0) + 1:04d}-{digest[:8]}"

    @contextmanager
    def staging(self, product: str) -> Iterator[Path]:
        """A directory beside the revisions to build one in; removed unless `commit` took it."""
        folder = self._folder(product)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
        except OSError as error:
            raise ProductError(
                f"{folder}: can't be written ({error}); choose another place with "
                "--state-dir or INSPECTD_STATE_DIR"
            ) from error
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if nothing is in it

    def commit(self, product: str, staged: Path, revision: str) -> Bundle:
        """Turns a finished staging directory into a revision, at once or not at all."""
        if not REVISION_NAME.fullmatch(revision):
            raise ProductError(f"{revision!r} is not a revision's name")
        open_bundle(staged)
        target = self._folder(product) / revision
        staged.chmod(0o755)
        for path in staged.rglob("*"):
            _sync(path)
        staged.rename(target)
        _sync(target.parent)
        return open_bundle(target)

    def _folder(self, product: str) -> Path:
        if not PRODUCT_NAME.fullmatch(product):
            raise ProductError(
                f"{product!r} is not a product's name: lower-case letters, digits, '_', '-' and "
                "'.', at most 64, beginning with a letter or digit"
            )
        return self.root / product

    def _is_product(self, path: Path) -> bool:
        return bool(PRODUCT_NAME.fullmatch(path.name)) and bool(self.revisions(path.name))

    def _linked(self, product: str, link: str) -> str | None:
        try:
            name = str((self._folder(product) / link).readlink())
        except OSError:
            return None
        return name if name in self.revisions(product) else None

    def _link(self, product: str, link: str, revision: str) -> None:
        folder = self._folder(product)
        fresh = folder / f".{link}-{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(revision)
        fresh.replace(folder / link)
        _sync(folder)


def _number(revision: str) -> int:
    match = REVISION_NAME.fullmatch(revision)
    return int(match.group(1)) if match else 0


def _sync(path: Path) -> None:
    """Makes a file or a directory's entries outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
