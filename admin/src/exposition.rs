//! Numbers as Prometheus reads them: families that are built at the scrape from what is counted elsewhere.
//!
//! prometheus' own counters would be a second place where numbers live; here a family is only written down.

pub mod lines;

use std::time::Duration;

use prometheus::{
    Registry, TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

/// The content type of what [`text`] writes.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Everything of a registry in the text format 0.0.4.
///
/// # Errors
/// If a family has no name or no series, which is a fault of its collector.
pub fn text(registry: &Registry) -> Result<String, prometheus::Error> {
    let mut text = String::new();
    append(registry, &mut text)?;
    Ok(text)
}

/// Likewise, behind what stands in `text` already, whose families must be others.
///
/// # Errors
/// As those of [`text`].
pub fn append(registry: &Registry, text: &mut String) -> Result<(), prometheus::Error> {
    TextEncoder::new().encode_utf8(&registry.gather(), text)
}

pub fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

pub fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

pub fn counter(labels: Vec<LabelPair>, value: u64) -> Metric {
    counter_f64(labels, value as f64)
}

pub fn counter_f64(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

/// A histogram of durations in seconds. `buckets` are upper bounds and how many were at most that, in rising order, the last
/// one without a bound left out.
pub fn histogram(labels: Vec<LabelPair>, buckets: &[(Duration, u64)], count: u64, sum: Duration) -> Metric {
    let mut histogram = Histogram::default();
    let bucket = |(bound, at_most): &(Duration, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(*at_most);
        bucket
    };
    histogram.set_bucket(buckets.iter().map(bucket).collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(sum.as_secs_f64());
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}

pub fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub fn single_gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::GAUGE, vec![gauge(Vec::new(), value)])
}

pub fn single_counter(name: &str, help: &str, value: u64) -> MetricFamily {
    family(name, help, MetricType::COUNTER, vec![counter(Vec::new(), value)])
}
