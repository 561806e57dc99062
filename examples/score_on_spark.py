"""Decides applications on Spark, with the scorer's wheel on every executor.

spark-submit score_on_spark.py APPLICATIONS MODEL IDENTIFIER DECISIONS

APPLICATIONS is a table in Parquet, MODEL the folder of a model that every executor sees, IDENTIFIER the column that
names the applicants, and DECISIONS the table that is written.
"""

import sys
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from scoring.batch import DECISIONS, table_scorer


def main(applications: str, model: str, identifier: str, decisions: str) -> None:
    """Read the applications, decide them where they lie, and write the decisions."""

    def decide(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scorer = table_scorer(model, carry=(identifier,))
        return map(scorer.score, batches)

    spark = SparkSession.builder.appName("credit-scoring").getOrCreate()
    table = spark.read.parquet(applications)
    columns = StructType([table.schema[identifier], *from_arrow_schema(DECISIONS)])
    table.mapInArrow(decide, columns).write.parquet(decisions)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
