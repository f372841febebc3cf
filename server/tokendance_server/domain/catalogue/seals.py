"""Credentials of providers, sealed: each opens for its own provider at its own origin, and nowhere else."""

from __future__ import annotations

import dataclasses

from tokendance_server.domain.catalogue.entries import ProviderSpec
from tokendance_server.domain.catalogue.rules import origin_of
from tokendance_server.domain.sealing import KeyRing, UnsealError, sealed_under


class ProviderSeals:
    """Seals and opens credentials with the keys of a ring."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def with_credential(self, name: str, spec: ProviderSpec, credential: str) -> ProviderSpec:
        """Return a provider with a credential sealed for it, where its address leads now."""
        return dataclasses.replace(spec, sealed_credential=self._ring.seal(credential, _place(name, spec)))

    def open(self, name: str, spec: ProviderSpec) -> str:
        """Return the sealed credential; empty where there is none. Raises UnsealError."""
        return self._ring.open(spec.sealed_credential, _place(name, spec)) if spec.sealed_credential else ""

    def opens(self, name: str, spec: ProviderSpec) -> bool:
        """Tell whether the sealed credential can be opened here."""
        try:
            self.open(name, spec)
        except UnsealError:
            return False
        return True

    def is_outdated(self, spec: ProviderSpec) -> bool:
        """Tell whether a credential is sealed under another key than the one in force."""
        return bool(spec.sealed_credential) and sealed_under(spec.sealed_credential) != self._ring.active_id

    def anew(self, name: str, spec: ProviderSpec) -> ProviderSpec:
        """Return a provider with its credential sealed under the key in force. Raises UnsealError."""
        return self.with_credential(name, spec, self.open(name, spec)) if self.is_outdated(spec) else spec

    def as_kept(self, name: str, kept: ProviderSpec, wanted: ProviderSpec) -> ProviderSpec:
        """Return what is wanted with the seal of what is kept, where both hide the same: no two seals are alike."""
        if not (kept.sealed_credential and wanted.sealed_credential) or not self.opens(name, kept):
            return wanted
        if self.open(name, kept) != self.open(name, wanted):
            return wanted
        return dataclasses.replace(wanted, sealed_credential=kept.sealed_credential)


def _place(name: str, spec: ProviderSpec) -> str:
    scheme, host, port = origin_of(spec.base_url)
    return f"providers/{name} {scheme}://{host}:{port}"
