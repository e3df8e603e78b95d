//! The figures beside what they are to be.

use std::fmt::{self, Display};

/// Lines of figures, in Markdown.
#[derive(Default)]
pub(crate) struct Table(Vec<Line>);

struct Line {
    row: u8,
    goal: String,
    figure: String,
    is_met: bool,
}

impl Table {
    /// Adds a line to row number `row`, and says it at once.
    pub(crate) fn add(
        &mut self,
        row: u8,
        goal: impl Into<String>,
        figure: impl Into<String>,
        is_met: bool,
    ) {
        let (goal, figure) = (goal.into(), figure.into());
        eprintln!("row {row}: {goal}: {figure}");
        self.0.push(Line {
            row,
            goal,
            figure,
            is_met,
        });
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| row | goal | figure | met |")?;
        writeln!(f, "| --- | --- | --- | --- |")?;
        let mut lines: Vec<_> = self.0.iter().collect();
        // Rows are measured in another order than they are read.
        lines.sort_by_key(|line| line.row);
        for line in lines {
            let met = if line.is_met { "yes" } else { "**no**" };
            writeln!(
                f,
                "| {} | {} | {} | {met} |",
                line.row, line.goal, line.figure
            )?;
        }
        Ok(())
    }
}
