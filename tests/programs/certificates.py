"""Certificates for tests, by the openssl command: an authority, and what it issues, good or bad."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import shutil
import subprocess

from .built import LabError

_HOUR = datetime.timedelta(hours=1)
_CONFIG = """
[ca]
default_ca = ours
[ours]
new_certs_dir = {directory}
database = {directory}/index.txt
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
email_in_dn = no
copy_extensions = none
[any]
commonName = supplied
"""
_LEAF = """
basicConstraints = critical,CA:FALSE
authorityKeyIdentifier = keyid:always
extendedKeyUsage = {usage}
subjectAltName = {names}
"""


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """The three files of one end of mutual TLS."""

    ca: pathlib.Path
    cert: pathlib.Path
    key: pathlib.Path

    def flags(self) -> list[str]:
        """For tsc-agent and tscctl."""
        return ["--tls-ca", str(self.ca), "--tls-cert", str(self.cert), "--tls-key", str(self.key)]

    def environment(self) -> dict[str, str]:
        """For tscctl."""
        return {"TSC_TLS_CA": str(self.ca), "TSC_TLS_CERT": str(self.cert), "TSC_TLS_KEY": str(self.key)}

    def replace_by(self, files: TlsFiles) -> None:
        """Puts copies of others into these places one after the other, each by a rename."""
        for there, here in zip(dataclasses.astuple(self), dataclasses.astuple(files), strict=True):
            made = there.with_suffix(".new")
            shutil.copyfile(here, made)
            os.chmod(made, 0o600)
            made.rename(there)

    def with_ca(self, ca: pathlib.Path) -> TlsFiles:
        """The same certificate, at one end that trusts another authority."""
        return dataclasses.replace(self, ca=ca)


def openssl(*arguments: str | pathlib.Path, text: str = "") -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], input=text, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise LabError(f"openssl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


class Authority:
    """Keeps everything in `directory`, which it makes. Not thread-safe."""

    def __init__(self, directory: pathlib.Path, name: str = "test authority") -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True)
        self.cert, self._key = directory / "ca.crt", directory / "ca.key"
        (directory / "index.txt").touch()
        self._config = directory / "ca.cnf"
        self._config.write_text(_CONFIG.format(directory=directory))
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                "-keyout", self._key, "-out", self.cert)

    def issue(self, name: str, names: str, *, usage: str = "serverAuth,clientAuth",
              valid: tuple[datetime.timedelta, datetime.timedelta] = (-24 * _HOUR, 168 * _HOUR)) -> TlsFiles:
        """`names`: subject alternative names, as openssl has them; `valid`: from and until, counted from now."""
        cert, key, request = (self.directory / f"{name}.{kind}" for kind in ("crt", "key", "csr"))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", key, "-out", request)
        os.chmod(key, 0o600)
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(_LEAF.format(usage=usage, names=names))
        now = datetime.datetime.now(datetime.UTC)
        start, end = ((now + moment).strftime("%Y%m%d%H%M%SZ") for moment in valid)
        openssl("ca", "-batch", "-notext", "-config", self._config, "-cert", self.cert, "-keyfile", self._key, "-startdate",
                start, "-enddate", end, "-extfile", extensions, "-in", request, "-out", cert)
        return TlsFiles(self.cert, cert, key)
