"""A judge behind an OpenAI-compatible service: `POST /chat/completions`, with retries."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any, NoReturn

from tunesmith.errors import RunError
from tunesmith.evaluate.means import Drawing, Messages, Unanswered

MAX_TRIES = 6
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 8.0
"""Doubled from try to try, as OpenAI's own client does."""
MAX_ASKED_WAIT_SECONDS = 120.0
"""A service that asks for a longer wait is given up."""
MAX_ANSWER_BYTES = 8 * 2**20
AGAIN = {408, 409, 425, 429}
"""States that pass, besides all from 500 on."""
OF_ONE_QUESTION = {400, 413, 422}
"""States that say that this question cannot be answered: too long, or refused."""
MAX_SHOWN = 200


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: urllib would carry the key on to wherever it leads."""

    def redirect_request(self, *request: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model at an address.

    Attributes:
        address: Up to `/v1`.
        model: Its name there.
        key: Sent with each question; empty sends none.
        timeout_seconds: For one answer.
        parallel: Questions at a time.
    """

    address: str
    model: str
    key: str = field(repr=False)
    timeout_seconds: float
    parallel: int

    @property
    def identity(self) -> str:
        """Address and model."""
        return f"{self.address} {self.model}"

    def answer(self, questions: Sequence[Messages], drawing: Drawing) -> list[str | Unanswered]:
        """An answer to each conversation.

        Raises:
            RunError: The service is not there, refuses the key, or goes on failing.
        """
        with ThreadPoolExecutor(min(self.parallel, max(len(questions), 1))) as pool:
            asked = [pool.submit(partial(self._ask, each, drawing)) for each in questions]
            try:
                return [each.result() for each in asked]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, question: Messages, drawing: Drawing) -> str | Unanswered:
        for number in range(MAX_TRIES):
            last = number == MAX_TRIES - 1
            try:
                return _text(self._post({"messages": question, **self._settings(drawing)}))
            except urllib.error.HTTPError as error:
                said = _said(error)
                if error.code in OF_ONE_QUESTION:
                    return Unanswered(f"the judge refused the question: {said}")
                if last or not (error.code in AGAIN or error.code >= 500):
                    self._give_up(f"{error.code}: {said}")
                wait = _wait(number, error.headers)
                if wait is None:
                    self._give_up(f"{error.code} and a wait of more than two minutes: {said}")
            except (OSError, HTTPException, ValueError) as error:
                wait = _wait(number, {})
                if last:
                    self._give_up(f"{type(error).__name__}: {error}")
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = json.dumps({"model": self.model, **body}).encode("ascii")
        request = urllib.request.Request(f"{self.address}/chat/completions", data, headers)
        with _OPENER.open(request, timeout=self.timeout_seconds) as reply:
            return json.loads(reply.read(MAX_ANSWER_BYTES))

    def _settings(self, drawing: Drawing) -> dict[str, Any]:
        given = {
            "temperature": drawing.temperature,
            "top_p": drawing.top_p,
            "seed": drawing.seed,
            "max_completion_tokens": drawing.max_tokens,
            "reasoning_effort": drawing.effort,
        }
        return {key: value for key, value in given.items() if value is not None}

    def _give_up(self, got: str) -> NoReturn:
        raise RunError(
            f"judge {self.model} at {self.address}",
            got=got[: 2 * MAX_SHOWN],
            expected="an answer",
            hint="answers so far are kept: run again when the endpoint answers",
        )


def _text(reply: Any) -> str | Unanswered:
    """The answer in a reply; a ValueError, which is tried again, when it is no reply."""
    try:
        message = reply["choices"][0]["message"]
        text = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no chat completion: {str(reply)[:MAX_SHOWN]}") from error
    if isinstance(text, str):
        return text
    return Unanswered(f"the judge said nothing ({message.get('refusal') or 'no content'})")


def _said(error: urllib.error.HTTPError) -> str:
    """What the service says of its error, in a line."""
    try:
        text = error.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
        told = json.loads(text)["error"]
        text = told["message"] if isinstance(told, dict) else str(told)
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        text = str(error.reason)
    return " ".join(str(text).split())[:MAX_SHOWN]


def _wait(number: int, headers: Mapping[str, str]) -> float | None:
    """Seconds until the next try; None when the service asks for more than we wait."""
    wait = min(FIRST_WAIT_SECONDS * 2**number, MAX_WAIT_SECONDS)
    try:
        asked = float(headers.get("Retry-After") or 0)
    except ValueError:
        asked = 0.0
    return None if asked > MAX_ASKED_WAIT_SECONDS else max(wait, asked)
