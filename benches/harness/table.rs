//! A table of figures, each with its goal.
//!
//! Does not depend on what is measured.

use std::fmt;

/// A figure, and its goal.
pub(crate) struct Figure {
    value: f64,
    places: usize,
    goal: Option<Goal>,
}

/// What a figure should be.
#[derive(Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    /// Creates a figure that is shown with this many decimal places; one that is not a number as a dash.
    pub(crate) fn new(value: f64, places: usize) -> Self {
        Self {
            value,
            places,
            goal: None,
        }
    }

    /// Sets the goal.
    pub(crate) fn at_most(self, goal: f64) -> Self {
        Self {
            goal: Some(Goal::AtMost(goal)),
            ..self
        }
    }

    /// Sets the goal.
    pub(crate) fn at_least(self, goal: f64) -> Self {
        Self {
            goal: Some(Goal::AtLeast(goal)),
            ..self
        }
    }

    fn is_missed(&self) -> bool {
        match self.goal {
            Some(Goal::AtMost(goal)) => self.value > goal,
            Some(Goal::AtLeast(goal)) => self.value < goal,
            None => false,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            value,
            places,
            goal,
        } = self;
        if value.is_nan() {
            return f.write_str("-");
        }
        write!(f, "{value:.places$}")?;
        match goal {
            Some(Goal::AtMost(goal)) if self.is_missed() => write!(f, " > {}", round(*goal)),
            Some(Goal::AtLeast(goal)) if self.is_missed() => write!(f, " < {}", round(*goal)),
            Some(_) => write!(f, " ok"),
            None => Ok(()),
        }
    }
}

fn round(goal: f64) -> f64 {
    (goal * 100.0).round() / 100.0
}

/// Rows of figures under common headings.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<(String, Vec<Figure>)>,
}

impl Table {
    /// Creates an empty table; the first column is the label of the rows.
    pub(crate) fn new(columns: Vec<&'static str>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, label: String, figures: Vec<Figure>) {
        self.rows.push((label, figures));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |(label, figures): &(String, Vec<Figure>)| -> Vec<String> {
            let label = std::iter::once(label.clone());
            label.chain(figures.iter().map(Figure::to_string)).collect()
        };
        let mut lines = vec![self.columns.iter().map(ToString::to_string).collect()];
        lines.extend(self.rows.iter().map(cells));
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                lines
                    .iter()
                    .map(|line| line[column].len())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for (number, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(&widths) {
                write!(f, "| {cell:>width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "|{:->width$}:", "", width = width + 1)?;
                }
                writeln!(f, "|")?;
            }
        }
        let figures = || self.rows.iter().flat_map(|(_, figures)| figures);
        let goals = figures().filter(|figure| figure.goal.is_some()).count();
        let missed = figures().filter(|figure| figure.is_missed()).count();
        write!(f, "\n{} of {goals} goals reached", goals - missed)
    }
}
