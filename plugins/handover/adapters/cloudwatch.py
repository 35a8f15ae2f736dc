"""CloudWatch: the newest complete period of one metric, or of one expression (GetMetricData)."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from typing import Any

from handover import clock
from handover.adapters.query_source import QuerySource, Sample, number, only
from handover.plan.sources import DIMENSIONS, STATISTIC, CloudWatch, metric_of
from handover.ports.metrics import NoAnswer, NoData, Query

CONNECT_SECONDS = 3.0
MAX_PAGES = 5
ABOUT_THE_QUERY = ("Validation", "InvalidParameter", "MissingRequiredParameter")
"""How the codes of errors begin that another query would not have."""


class CloudWatchMetrics(QuerySource):
    """See `handover.plan.sources.CloudWatch`. boto3 blocks, so it works in threads."""

    def __init__(self, name: str, rules: CloudWatch, queries: Sequence[Query]) -> None:
        super().__init__(name, queries, rules.timeout_seconds)
        self._rules = rules
        self._client: Any = None
        self._making = asyncio.Lock()

    async def ask(self, query: Query) -> Sample:
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"{self._rules.connection}: GetMetricData"
        try:
            async with self._making:
                if self._client is None:
                    self._client = await self._made()
            return await asyncio.to_thread(self._look, self._client, query)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "an unnamed error"))
            if any(code.startswith(one) for one in ABOUT_THE_QUERY):
                raise NoData(f"{where}: {code}: {error.response['Error'].get('Message', '')[:300]}") from None
            self._client = None  # a session that has expired would stay so
            raise NoAnswer(f"{where} was refused: {code}") from None
        except (BotoCoreError, OSError) as error:
            raise NoAnswer(f"{where}: {type(error).__name__}") from None

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)

    async def _made(self) -> Any:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
        from airflow.providers.common.compat.connection import get_async_connection
        from airflow.sdk.exceptions import AirflowNotFoundException
        from botocore.config import Config

        try:
            await get_async_connection(self._rules.connection)  # the hook would go on without, as whoever this is
        except AirflowNotFoundException:
            raise NoAnswer(f"there is no connection {self._rules.connection}") from None
        waits = Config(connect_timeout=CONNECT_SECONDS, read_timeout=self._seconds, retries={"total_max_attempts": 1})
        hook = AwsBaseHook(aws_conn_id=self._rules.connection, client_type="cloudwatch", config=waits)
        return await asyncio.to_thread(hook.get_client_type)

    def _look(self, client: Any, query: Query) -> Sample:
        period = self._rules.period_seconds
        end = clock.epoch() // period * period  # of a period that goes on a part is missing
        asked = {
            "MetricDataQueries": [_asked(query.text, period)], "ScanBy": "TimestampDescending",
            "StartTime": _moment(end - self._rules.window_seconds), "EndTime": _moment(end),
        }  # fmt: skip
        results: list[dict[str, Any]] = []
        for _ in range(MAX_PAGES):
            page = client.get_metric_data(**asked)
            results += page["MetricDataResults"]
            if not page.get("NextToken"):
                return newest(results, end - period)
            asked["NextToken"] = page["NextToken"]
        raise NoData(f"more than {MAX_PAGES} pages of data")


def _moment(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at, datetime.UTC)


def _asked(text: str, period: int) -> dict[str, Any]:
    metric = metric_of(text)
    if metric is None:
        return {"Id": "m", "Expression": text, "Period": period}
    dimensions = [{"Name": name, "Value": value} for name, value in metric[DIMENSIONS].items()]
    named = {"Namespace": metric["namespace"], "MetricName": metric["metric"], "Dimensions": dimensions}
    return {"Id": "m", "MetricStat": {"Metric": named, "Period": period, "Stat": metric[STATISTIC]}}


def newest(results: Sequence[dict[str, Any]], begun: float) -> Sample:
    """The newest value of the one series, of a period that had begun by then; all its pages have one label.

    Raises `NoData`.
    """
    only(list({result.get("Label") for result in results}), "series")
    points = [
        (at.timestamp(), value)
        for result in results
        for at, value in zip(result["Timestamps"], result["Values"], strict=True)
        if at.timestamp() <= begun
    ]
    status = results[-1].get("StatusCode", "Complete")
    if status != "Complete":
        raise NoData(f"the data is not complete: {status}")
    if not points:
        raise NoData("no complete period in the window")
    at, value = max(points)
    return Sample(number(value), at)
