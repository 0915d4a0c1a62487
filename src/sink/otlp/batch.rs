//! Encoded spans on their way into a request.

use std::time::{Duration, Instant};

use super::encode::request;
use super::exporter::SpanBatch;

/// Receivers take 4 MiB by default; this leaves room for the resource.
pub(super) const MAX_BYTES: usize = 3 << 20;

/// Collects spans until a request is full.
#[derive(Debug)]
pub(crate) struct Batch {
    /// An encoded `Resource`.
    resource: Vec<u8>,
    max_spans: u64,
    bytes: Vec<u8>,
    spans: u64,
    /// When the first of them came.
    since: Option<Instant>,
    full: Vec<SpanBatch>,
}

impl Batch {
    pub(super) fn new(resource: Vec<u8>, max_spans: usize) -> Batch {
        Batch {
            resource,
            max_spans: (max_spans as u64).max(1),
            bytes: Vec::new(),
            spans: 0,
            since: None,
            full: Vec::new(),
        }
    }

    /// Lets `encode` append one span.
    pub(super) fn append<T>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.bytes.len();
        let result = encode(&mut self.bytes);
        if self.bytes.len() > MAX_BYTES && self.spans > 0 {
            let span = self.bytes.split_off(start);
            self.close();
            self.bytes.extend_from_slice(&span);
        }
        self.spans += 1;
        if self.spans >= self.max_spans || self.bytes.len() >= MAX_BYTES {
            self.close();
        } else if self.since.is_none() {
            self.since = Some(Instant::now());
        }
        result
    }

    /// Appends a span that is encoded already.
    pub(super) fn push(&mut self, span: &[u8]) {
        self.append(|out| out.extend_from_slice(span));
    }

    /// Appends encoded spans one by one.
    pub(super) fn push_all(&mut self, mut spans: &[u8]) {
        while let Some((span, rest)) = split_first(spans) {
            self.push(span);
            spans = rest;
        }
    }

    /// Returns how many spans no request was made of yet.
    pub(super) fn pending(&self) -> u64 {
        self.spans + self.full.iter().map(|batch| batch.spans).sum::<u64>()
    }

    /// Makes a request of what waits for longer than this.
    pub(super) fn close_after(&mut self, delay: Duration) {
        if self.since.is_some_and(|since| since.elapsed() >= delay) {
            self.close();
        }
    }

    /// Makes a request of what there is.
    pub(super) fn close(&mut self) {
        self.since = None;
        if self.spans > 0 {
            self.full.push(SpanBatch {
                request: request(&self.resource, &self.bytes),
                spans: self.spans,
            });
            self.bytes.clear();
            self.spans = 0;
        }
    }

    /// Takes the requests.
    pub(super) fn take(&mut self) -> impl Iterator<Item = SpanBatch> {
        self.full.drain(..)
    }
}

/// Splits off the first of what [`SpanEncoder::append`](super::encode::SpanEncoder::append) wrote.
fn split_first(spans: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    // After the tag, which is one byte.
    for (at, &byte) in spans.iter().enumerate().skip(1) {
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte < 0x80 {
            return spans.split_at_checked(at + 1 + length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;

    use super::*;

    /// A span with a name of this many bytes, as the encoder writes it.
    fn span(name_len: usize) -> Vec<u8> {
        use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
        let span = Span {
            name: "x".repeat(name_len),
            ..Span::default()
        };
        let scope = ScopeSpans {
            spans: vec![span],
            ..ScopeSpans::default()
        };
        scope.encode_to_vec()
    }

    fn names(batch: &SpanBatch) -> Vec<usize> {
        let request = ExportTraceServiceRequest::decode(batch.request.as_slice()).unwrap();
        let spans = &request.resource_spans[0].scope_spans[0].spans;
        assert_eq!(spans.len() as u64, batch.spans);
        spans.iter().map(|span| span.name.len()).collect()
    }

    #[test]
    fn a_request_is_full_at_its_number_of_spans() {
        let mut batch = Batch::new(Vec::new(), 2);
        let spans: Vec<u8> = (1..=5).flat_map(|length| span(length * 100)).collect();
        batch.push_all(&spans);
        assert_eq!(batch.pending(), 5);
        let full: Vec<_> = batch.take().map(|batch| names(&batch)).collect();
        assert_eq!(full, [[100, 200], [300, 400]]);
        assert_eq!(batch.pending(), 1);
        batch.close();
        batch.close();
        let rest: Vec<_> = batch.take().map(|batch| names(&batch)).collect();
        assert_eq!(rest, [[500]]);
        assert_eq!(batch.pending(), 0);
    }

    #[test]
    fn a_request_is_full_at_its_number_of_bytes() {
        let mut batch = Batch::new(Vec::new(), 1000);
        for length in [
            MAX_BYTES / 2,
            MAX_BYTES / 3,
            MAX_BYTES / 2,
            10,
            MAX_BYTES,
            20,
        ] {
            batch.push(&span(length));
        }
        batch.close();
        let full: Vec<_> = batch.take().map(|batch| names(&batch)).collect();
        assert_eq!(full[0], [MAX_BYTES / 2, MAX_BYTES / 3]);
        assert_eq!(full[1], [MAX_BYTES / 2, 10]);
        assert_eq!(full[2..], [vec![MAX_BYTES], vec![20]]);
    }

    #[test]
    fn spans_wait_no_longer_than_the_delay() {
        let mut batch = Batch::new(Vec::new(), 1000);
        batch.push(&span(1));
        batch.close_after(Duration::from_secs(3600));
        assert_eq!(batch.take().count(), 0);
        batch.close_after(Duration::ZERO);
        assert_eq!(batch.take().count(), 1);
    }
}
