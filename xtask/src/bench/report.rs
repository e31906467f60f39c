//! What a benchmark found: rows, a summary and the machine, as a table and as JSON.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

/// One number.
#[derive(Debug)]
struct Row {
    case: String,
    subject: String,
    metric: String,
    /// None where it could not be measured; the metric says why.
    value: Option<f64>,
    unit: &'static str,
    ratio_to_baseline: Option<f64>,
}

/// Everything that one benchmark found.
#[derive(Debug)]
pub(super) struct Report {
    host: Value,
    rows: Vec<Row>,
    summary: Map<String, Value>,
}

impl Report {
    /// An empty one, about this machine as it is now.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { host: host()?, rows: Vec::new(), summary: Map::new() })
    }

    /// The rows of one case; each is given by subject, metric, value and unit.
    pub(super) fn case(&mut self, case: impl Into<String>) -> Case<'_> {
        Case { rows: &mut self.rows, case: case.into() }
    }

    /// Names a number by which versions of the gateway are compared; none where it could not be
    /// measured.
    pub(super) fn summarize(&mut self, name: &str, value: impl Into<Option<f64>>) {
        self.summary.insert(name.to_owned(), json!(value.into().map(rounded)));
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let width = |title: &str, of: fn(&Row) -> &str| {
            // Reasons why something was not measured are long, and stand at the end of their line.
            let measured = self.rows.iter().filter(|row| row.value.is_some());
            let widths = measured.map(|row| of(row).len());
            widths.chain([title.len()]).max().unwrap_or_default()
        };
        let case_width = width("CASE", |row| &row.case);
        let subject_width = width("SUBJECT", |row| &row.subject);
        let metric_width = width("METRIC", |row| &row.metric);
        let mut table = format!(
            "{:case_width$} {:subject_width$} {:metric_width$} {:>12} {:8} {:>8}\n",
            "CASE", "SUBJECT", "METRIC", "VALUE", "UNIT", "RATIO"
        );
        for Row { case, subject, metric, value, unit, ratio_to_baseline } in &self.rows {
            let value = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
            let ratio = ratio_to_baseline.map_or_else(String::new, |ratio| format!("{ratio:.3}"));
            // Writing to a string cannot fail.
            let _infallible = writeln!(
                table,
                "{case:case_width$} {subject:subject_width$} {metric:metric_width$} {value:>12} \
                 {unit:8} {ratio:>8}"
            );
        }
        for (name, value) in &self.summary {
            let _infallible = writeln!(table, "{name}: {value}");
        }
        table
    }

    /// For programs.
    pub(super) fn json(&self) -> Result<String> {
        let row = |row: &Row| {
            json!({
                "case": row.case,
                "subject": row.subject,
                "metric": row.metric,
                "value": row.value.map(rounded),
                "unit": row.unit,
                "ratio_to_baseline": row.ratio_to_baseline.map(rounded),
            })
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        let report = json!({ "host": self.host, "rows": rows, "summary": self.summary });
        Ok(serde_json::to_string_pretty(&report)? + "\n")
    }
}

/// Takes the rows of one case.
pub(super) struct Case<'r> {
    rows: &'r mut Vec<Row>,
    case: String,
}

impl Case<'_> {
    /// A number of one subject.
    pub(super) fn row(&mut self, subject: &str, (metric, unit): (&str, &'static str), value: f64) {
        self.push(subject, (metric, unit), Some(value), None);
    }

    /// A number of one subject, and what it is compared with; gives the ratio.
    pub(super) fn compared(
        &mut self,
        subject: &str,
        metric: (&str, &'static str),
        value: f64,
        baseline: f64,
    ) -> f64 {
        let ratio = value / baseline;
        self.push(subject, metric, Some(value), Some(ratio));
        ratio
    }

    /// What could not be measured of one subject, and why.
    pub(super) fn missing(&mut self, subject: &str, why: &str) {
        self.push(subject, (&format!("not measured: {why}"), ""), None, None);
    }

    fn push(
        &mut self,
        subject: &str,
        (metric, unit): (&str, &'static str),
        value: Option<f64>,
        ratio_to_baseline: Option<f64>,
    ) {
        let (case, subject, metric) = (self.case.clone(), subject.to_owned(), metric.to_owned());
        self.rows.push(Row { case, subject, metric, value, unit, ratio_to_baseline });
    }
}

/// To three digits after the point: no measurement here is finer.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The middle one of some values; the mean of the middle two of an even number of them.
pub(super) fn median(values: &[f64]) -> Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = sorted.get(half).context("no value to take the median of")?;
    let is_even = sorted.len().is_multiple_of(2);
    let lower = if is_even { sorted.get(half - 1) } else { None };
    Ok(lower.map_or(*upper, |lower| f64::midpoint(*lower, *upper)))
}

/// The machine: kernel, processors, load of the last minute.
fn host() -> Result<Value> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load: Option<f64> = load.split(' ').next().and_then(|load| load.parse().ok());
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    Ok(json!({
        "kernel": kernel.trim(),
        "cpu": processors(&cpu),
        "load": load.context("the load is not a number")?,
    }))
}

/// How many processors, and their model where the kernel names one.
fn processors(cpuinfo: &str) -> String {
    let values = |name: &'static str| {
        let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.filter(move |(key, _)| key.trim() == name).map(|(_, value)| value.trim())
    };
    let count = values("processor").count();
    format!("{count} x {}", values("model name").next().unwrap_or("unnamed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let cases: [(&[f64], f64); 4] =
            [(&[3.0], 3.0), (&[9.0, 1.0, 2.0], 2.0), (&[4.0, 2.0], 3.0), (&[1.0; 5], 1.0)];
        for (values, expected) in cases {
            let found = median(values).unwrap();
            assert!((found - expected).abs() < f64::EPSILON, "{values:?}: {found}");
        }
        assert!(median(&[]).is_err());
    }

    #[test]
    fn processors_are_counted() {
        let two = "processor\t: 0\nmodel name\t: Fast 1\n\nprocessor\t: 1\nmodel name\t: Fast 1\n";
        assert_eq!(processors(two), "2 x Fast 1");
        assert_eq!(processors("processor : 0\n"), "1 x unnamed");
    }

    #[test]
    fn a_report_has_its_rows_and_summary() {
        let mut report = Report::new().unwrap();
        let mut case = report.case("copy");
        case.row("direct", ("speed", "MB/s"), 200.0);
        let ratio = case.compared("proxyd", ("speed", "MB/s"), 100.0004, 200.0);
        case.missing("tuned", "no such build");
        report.summarize("speed_ratio", ratio);
        report.summarize("tuned_ratio", None);
        let json: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let expected = json!([
            { "case": "copy", "subject": "direct", "metric": "speed", "value": 200.0,
              "unit": "MB/s", "ratio_to_baseline": null },
            { "case": "copy", "subject": "proxyd", "metric": "speed", "value": 100.0,
              "unit": "MB/s", "ratio_to_baseline": 0.5 },
            { "case": "copy", "subject": "tuned", "metric": "not measured: no such build",
              "value": null, "unit": "", "ratio_to_baseline": null },
        ]);
        assert_eq!(json.get("rows"), Some(&expected));
        assert_eq!(json.get("summary"), Some(&json!({ "speed_ratio": 0.5, "tuned_ratio": null })));
        assert!(json.pointer("/host/load").unwrap().is_number());
        assert_eq!(report.table().lines().count(), 1 + 3 + 2);
    }
}
