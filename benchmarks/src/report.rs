//! Output of the figures as tables or as JSON.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::affinity;
use crate::rounds::Row;
use crate::runtime::FLAVOR_VARIABLE;
use crate::settings_comparison::SETTINGS_VARIABLE;

#[derive(Clone, Copy)]
pub(crate) enum Format {
    Table,
    Json,
}

/// Prints each JSON line immediately, and each table when its group is complete.
pub(crate) struct Report {
    format: Format,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Line<'a> {
    figure: &'a str,
    #[serde(rename = "who")]
    contender: &'a str,
    value: f64,
    unit: &'a str,
    ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_tarpc: Option<f64>,
}

impl Report {
    pub(crate) fn begin(format: Format) -> anyhow::Result<Self> {
        if matches!(format, Format::Table) {
            println!("{}", affinity::description()?);
            for variable in [SETTINGS_VARIABLE, FLAVOR_VARIABLE] {
                if let Ok(value) = std::env::var(variable) {
                    println!("{variable}={value}");
                }
            }
        }
        Ok(Self { format, rows: Vec::new() })
    }

    /// Adds the rows of one figure.
    pub(crate) fn add(&mut self, rows: Vec<Row>) -> anyhow::Result<()> {
        match self.format {
            Format::Table => self.rows.extend(rows),
            Format::Json => {
                let mut stdout = std::io::stdout().lock();
                for row in &rows {
                    writeln!(stdout, "{}", serde_json::to_string(&line(row))?)?;
                }
                stdout.flush()?;
            }
        }
        Ok(())
    }

    pub(crate) fn end_group(&mut self, group: &str) -> anyhow::Result<()> {
        if matches!(self.format, Format::Table) {
            let table = table(&std::mem::take(&mut self.rows));
            writeln!(std::io::stdout(), "\n{group}\n{table}")?;
        }
        Ok(())
    }
}

fn line(row: &Row) -> Line<'_> {
    Line {
        figure: row.figure,
        contender: &row.contender,
        value: rounded(row.value),
        unit: row.unit,
        ratio: rounded(row.ratio),
        ratio_to_tarpc: row.ratio_to_tarpc.map(rounded),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["figure", "contender", "median", "unit", "min to max", "x first", "x tarpc"]);
    let mut previous = "";
    for row in rows {
        // Only the first line of a figure has its name.
        let figure = if row.figure == previous { "" } else { row.figure };
        previous = row.figure;
        table.add_row([
            figure.to_owned(),
            row.contender.clone(),
            number(row.value),
            row.unit.to_owned(),
            format!("{} to {}", number(row.min), number(row.max)),
            number(row.ratio),
            row.ratio_to_tarpc.map(number).unwrap_or_default(),
        ]);
    }
    for column in [2, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Formats a value with three significant digits and all digits before the decimal point.
fn number(value: f64) -> String {
    let decimals = decimals(value, 3);
    format!("{value:.decimals$}")
}

/// Rounds to four significant digits.
fn rounded(value: f64) -> f64 {
    let scale = 10_f64.powi(i32::try_from(decimals(value, 4)).unwrap_or(0));
    (value * scale).round() / scale
}

fn decimals(value: f64, significant: i32) -> usize {
    if value == 0.0 {
        return 0;
    }
    let integer_digits = value.abs().max(f64::MIN_POSITIVE).log10().floor() as i32 + 1;
    usize::try_from(significant - integer_digits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ratio_to_tarpc: Option<f64>) -> Row {
        Row {
            figure: "call.sequential.pinned",
            contender: "rpc-parallel".into(),
            unit: "us",
            value: 15.903_77,
            min: 15.0,
            max: 17.0,
            ratio: 1.074_56,
            ratio_to_tarpc,
        }
    }

    #[test]
    fn json_line_has_the_documented_fields() {
        let json = serde_json::to_string(&line(&row(None))).expect("a line is plain data");

        let expected = r#"{"figure":"call.sequential.pinned","who":"rpc-parallel","value":15.9,"unit":"us","ratio":1.075}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn ratio_to_tarpc_adds_one_field() {
        let json = serde_json::to_string(&line(&row(Some(0.8)))).expect("a line is plain data");

        assert!(json.ends_with(r#","ratio_to_tarpc":0.8}"#), "{json}");
    }

    #[test]
    fn numbers_have_three_significant_digits() {
        assert_eq!(number(0.012_345), "0.0123");
        assert_eq!(number(1.0), "1.00");
        assert_eq!((number(0.0).as_str(), rounded(0.0)), ("0", 0.0));
        assert_eq!(number(9_876.5), "9876");
    }
}
