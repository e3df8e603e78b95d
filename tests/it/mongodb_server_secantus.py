"""SecantusDB, with dates before the year 1, which MongoDB has and Python's own dates have not."""

import datetime
import types

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS

bson.DEFAULT_CODEC_OPTIONS = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)

from secantus import cli, ordering, query, sortkey  # noqa: E402


class AnyDate(type):
    def __instancecheck__(cls, value):
        return isinstance(value, (datetime.datetime, DatetimeMS))


class Date(metaclass=AnyDate):
    pass


def millis(date):
    return int(date if isinstance(date, DatetimeMS) else DatetimeMS(date))


def as_numbers(one, other):
    if isinstance(one, Date) and isinstance(other, Date):
        return millis(one), millis(other)
    return one, other


def sort_key(date):
    return sortkey._signed_int64_sortable(millis(date))


dates = types.SimpleNamespace(**{**vars(datetime), "datetime": Date})
for module in (ordering, query, sortkey):
    module._dt = dates
query._coerce_datetime = as_numbers
sortkey._encode_date = sort_key

cli.main()
