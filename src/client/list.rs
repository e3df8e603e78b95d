//! A table of watchers, which is shown while it is read: a list can be longer than memory.

use std::fmt;
use std::io::{self, Write};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::api::{Answer, Failure};
use super::show::{Ink, Paper, State, clean, cut, since, width};

/// How many rows are lined up with each other. Those that follow keep to the same columns if they can.
const ROWS: usize = 500;
/// The widest a column but the last gets on a terminal.
const WIDEST: usize = 40;
/// The narrowest that the last column gets on a terminal.
const NARROWEST: usize = 20;

/// A watcher in a list.
#[derive(Deserialize)]
struct Listed {
    name: String,
    id: String,
    #[serde(flatten)]
    state: Option<State>,
    #[serde(default)]
    history: Newest,
}

/// The newest event of a history, which is all that is kept of it.
#[derive(Default)]
struct Newest(Option<(String, String)>);

/// Shows the list that `answer` is.
pub(super) fn show(mut answer: Answer, brief: bool) -> Result<(), Failure> {
    let heads: &[&str] = if brief {
        &["NAME", "ID"]
    } else {
        &["NAME", "ID", "STATE", "DUE", "LAST", "EVENT"]
    };
    let now = answer.now;
    let mut table = Table::new(heads);
    let mut deserializer = serde_json::Deserializer::from_reader(&mut answer.body);
    let read = deserializer
        .deserialize_map(Watchers(|listed: Listed| {
            let row = if brief {
                named(&listed)
            } else {
                row(&listed, now)
            };
            table.add(row)
        }))
        .and_then(|()| deserializer.end());
    if let Some(error) = table.failed.take() {
        return Err(error.into());
    }
    // What was read is shown, whatever came after it.
    let is_empty = table.is_empty();
    table.finish()?;
    read.map_err(|error| answer.not_understood(error))?;
    if is_empty {
        eprintln!("no watchers");
    }
    Ok(())
}

fn named(listed: &Listed) -> Row {
    let cells = [&listed.name, &listed.id];
    cells.map(|text| (Ink::Plain, clean(text))).into()
}

fn row(listed: &Listed, now: Option<DateTime<Utc>>) -> Row {
    let (ink, word) = listed.state.as_ref().map_or((Ink::Plain, ""), State::word);
    let due = listed.state.as_ref().and_then(|state| state.due(now));
    let (last, event) = match &listed.history.0 {
        Some((at, text)) => (since(at, now).unwrap_or_else(|| clean(at)), clean(text)),
        None => Default::default(),
    };
    vec![
        (Ink::Plain, clean(&listed.name)),
        (Ink::Plain, clean(&listed.id)),
        (ink, word.to_owned()),
        (ink, due.unwrap_or_else(|| "-".to_owned())),
        (Ink::Plain, last),
        (Ink::Plain, event),
    ]
}

type Row = Vec<(Ink, String)>;

/// A table that is written some rows at a time.
struct Table {
    paper: Paper,
    heads: Vec<&'static str>,
    rows: Vec<Row>,
    widths: Vec<usize>,
    is_begun: bool,
    /// Why writing came to an end.
    failed: Option<io::Error>,
}

impl Table {
    fn new(heads: &[&'static str]) -> Self {
        Self {
            paper: Paper::stdout(),
            heads: heads.to_vec(),
            rows: Vec::new(),
            widths: heads.iter().map(|head| width(head)).collect(),
            is_begun: false,
            failed: None,
        }
    }

    fn is_empty(&self) -> bool {
        !self.is_begun && self.rows.is_empty()
    }

    /// Adds a row; `false` if it is no use to go on.
    fn add(&mut self, row: Row) -> bool {
        self.rows.push(row);
        if self.rows.len() < ROWS {
            return true;
        }
        self.failed = self.write().err();
        self.failed.is_none()
    }

    fn finish(mut self) -> io::Result<()> {
        self.write()?;
        self.paper.finish()
    }

    /// Writes the rows that there are.
    fn write(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let most = self.paper.columns.map_or(usize::MAX, |_| WIDEST);
        for row in &rows {
            for (widest, (_, text)) in self.widths.iter_mut().zip(row) {
                *widest = width(text).min(most).max(*widest);
            }
        }
        if !self.is_begun {
            self.is_begun = true;
            let heads = self
                .heads
                .iter()
                .map(|head| (Ink::Bold, (*head).to_owned()));
            self.write_row(&heads.collect())?;
        }
        for row in &rows {
            self.write_row(row)?;
        }
        self.paper.flush()
    }

    fn write_row(&mut self, row: &Row) -> io::Result<()> {
        let last = row.len() - 1;
        let before: usize = self.widths[..last].iter().map(|width| width + 2).sum();
        let left = self
            .paper
            .columns
            .map(|columns| columns.saturating_sub(before));
        for (index, (ink, text)) in row.iter().enumerate() {
            if index == last {
                let left = left.map_or(usize::MAX, |left| left.max(NARROWEST));
                self.paper.draw(*ink, &cut(text, left))?;
                return writeln!(self.paper);
            }
            let columns = self.widths[index];
            let text = cut(text, columns);
            self.paper.draw(*ink, &text)?;
            let gap = columns - width(&text) + 2;
            write!(self.paper, "{:gap$}", "")?;
        }
        Ok(())
    }
}

/// Hands each watcher of a list on as soon as it is read, until that is no use any more.
struct Watchers<F>(F);

impl<'de, F: FnMut(Listed) -> bool> Visitor<'de> for Watchers<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of watchers")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut is_there = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "watchers" {
                is_there = true;
                map.next_value_seed(Elements(&mut self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        is_there
            .then_some(())
            .ok_or_else(|| A::Error::missing_field("watchers"))
    }
}

struct Elements<'a, F>(&'a mut F);

impl<'de, F: FnMut(Listed) -> bool> DeserializeSeed<'de> for Elements<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Listed) -> bool> Visitor<'de> for Elements<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watchers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut watchers: A) -> Result<(), A::Error> {
        while let Some(listed) = watchers.next_element()? {
            if !(self.0)(listed) {
                return Err(A::Error::custom("nobody reads on"));
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Newest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;

        impl<'de> Visitor<'de> for First {
            type Value = Newest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a history")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<Newest, A::Error> {
                let newest = events.next_element()?;
                while events.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Newest(newest))
            }
        }

        deserializer.deserialize_seq(First)
    }
}
