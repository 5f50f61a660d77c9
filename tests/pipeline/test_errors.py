from __future__ import annotations

import os

import pytest

from pipeline.errors import UserError, check_range, check_secret_free, printable, redact

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
WITH_CREDENTIALS = [
    f"s3://AKIAIOSFODNN7EXAMPLE:{SECRET}@bucket/prefix",
    f"s3://key:{SECRET}@bucket",
    "s3://key:12345/67890secret@bucket",
    "s3://key:se@cr@et@bucket/x",
    "https://user:hunter2hunter2@host:8443/store",
    "http://user:hunter2@host:5000#faces",
    "https://ghp_sixteenletters@host/x",
    "postgresql+psycopg://user:hunter2@host/mlflow",
    "https://b.s3.amazonaws.com/x?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2026&X-Amz-Signature=0123456789abcdef",
    "https://account.blob.core.windows.net/c/x?sv=2022-11-02&sig=abc%2Bdef%3D",
    "https://b.s3.amazonaws.com/x?AWSAccessKeyId=hunter2hunter2&Signature=abcdef",
    "https://storage.googleapis.com/b/x?x-goog-signature=0123abcd",
]
WITHOUT = [
    "s3://bucket/dir@2x/x.png", "s3://bucket/a:b@c", "/home/me@work/a:b@c", "https://host:8080/a@2x.png",
    "abfs://container@account.dfs.core.windows.net/x", "memory://a/b", "file:///tmp/x@y", "sftp://me@host/x",
    "s3://raw/data/slot=2026-11-*/translator=original", "https://host/x?page=2&sort=key", "a@b:c", "s3://bucket/photo.jpg?sig=123",
    "/data/photo.jpg?token=abc", "token=yes",
]  # fmt: skip


@pytest.mark.parametrize("url", WITH_CREDENTIALS)
def test_credentials_in_a_url_are_refused_without_being_said(url: str) -> None:
    with pytest.raises(UserError, match="credentials") as caught:
        check_secret_free(url)
    for said in (str(caught.value), redact(f"boto: cannot read '{url}': no answer")):
        for secret in (SECRET, SECRET[:10], "67890secret", "cr@et", "hunter2", "ghp_", "0123", "abc", "AKIA"):
            assert secret not in said


@pytest.mark.parametrize("url", WITHOUT)
def test_other_urls_are_left_alone(url: str) -> None:
    check_secret_free(url)
    assert redact(f"cannot read {url}: no answer") == f"cannot read {url}: no answer"


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_CONNECTION_STRING",
     "AZURE_CLIENT_SECRET", "HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "FSSPEC_S3_SECRET",
     "FSSPEC_S3_KEY", "RAY_AUTH_TOKEN", "GOOGLE_API_KEY"],
)  # fmt: skip
def test_secrets_of_the_environment_are_never_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRET)
    said = redact(f"Forbidden: {SECRET} and {SECRET.replace('/', '%2F').replace('+', '%2B')}")
    assert said == "Forbidden: [redacted] and [redacted]"


def test_what_authorises_a_request_is_never_said() -> None:
    header = (
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/2026/s3, Signature=fe5f80f77d5fa3beca038a24"
    )
    for said in (
        redact(header),
        redact("Authorization: Bearer abcdefghijklmnopqrstuvw"),
        redact("ASIAIOSFODNN7EXAMPLE"),
    ):
        assert not any(secret in said for secret in ("IOSFODNN", "fe5f80", "abcdefgh"))


def test_what_would_steer_a_terminal_is_shown_as_an_escape() -> None:
    hostile = "a\nb\r\x1b[2K\x9b1m\u202e\u2066\u2028\ud800\x07\x7f\u200b"
    assert printable(hostile) == r"a\nb\r\x1b[2K\x9b1m\u202e\u2066\u2028\ud800\x07\x7f\u200b"
    assert printable("grün 東京.png") == "grün 東京.png"


@pytest.mark.parametrize(
    "arguments",
    [
        ["pack", "--input", f"s3://key:{SECRET}@bucket/in", "--output", "out"],
        ["verify", "--input", f"s3://key:{SECRET}@bucket/in"],
        ["pack", f"s3://key:{SECRET}@bucket/in"],
        ["pack", f"--inputt=s3://key:{SECRET}@bucket/in"],
        ["pack", "--limits.rows", f"s3://key:{SECRET}@bucket"],
        ["pack", "--config", f"s3://key:{SECRET}@bucket/pack.yaml"],
        ["pack", "--config", "secret.yaml"],
        ["train", "--watch.mlflow", f"http://key:{SECRET}@host:5000#x", "--input", "in", "--output", "out"],
        ["pack", "--input", f"s3://key:{SECRET}@bucket/in", "--output", "out", "--debug"],
    ],
)
def test_no_command_says_a_secret_that_it_was_given(
    arguments: list[str],
    tmp_path: os.PathLike[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import importlib

    monkeypatch.chdir(tmp_path)
    with open("secret.yaml", "w") as file:
        file.write(f"input: s3://key:{SECRET}@bucket/in\noutput: out\n")
    assert importlib.import_module(f"jobs.{arguments[0]}").main(arguments[1:]) == 2
    said = capsys.readouterr()
    assert SECRET[:13] not in said.out + said.err
    assert "credentials" in said.err


@pytest.mark.parametrize(
    ("value", "bounds", "rule"),
    [
        (0, {"least": 1}, "at least 1"),
        (0.0, {"above": 0, "below": 1}, "more than 0 and less than 1"),
        (101, {"least": 1, "most": 100}, "at least 1 and at most 100"),
        (float("nan"), {"least": 0, "below": 1}, "at least 0 and less than 1"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_range(value: float, bounds: dict, rule: str) -> None:
    with pytest.raises(UserError, match=f"^limits.rows is {value}: it must be {rule}$"):
        check_range("limits.rows", value, **bounds)


@pytest.mark.parametrize(("value", "bounds"), [(None, {"least": 1}), (1, {"least": 1, "most": 1}), (0.5, {"above": 0})])
def test_a_value_in_its_range_or_none_is_taken(value: float | None, bounds: dict) -> None:
    check_range("limits.rows", value, **bounds)
