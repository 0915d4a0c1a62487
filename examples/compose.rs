//! The layer beside other layers, with a sink and a resource source of the program's own.
//!
//! ```text
//! cargo run --release --example compose [FOLDER]
//! ```
//!
//! Threads take the tiles of a picture of the Mandelbrot set from a queue. The sink writes one line for each span to
//! `FOLDER/spans.csv`; the source shows in `FOLDER/trace.json` how the queue empties.

#![allow(
    clippy::print_stdout,
    reason = "what the program finds belongs on standard output"
)]

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use std::{env, iter, thread};

use tracing::{Span, info, info_span, instrument};
use tracing_cortex::{
    CortexLayer, Diagnosis, Profile, Readings, ResourceSource, Sink, SinkError, SpanRecord,
    TextReport, Unit,
};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args_os()
        .nth(1)
        .map_or_else(env::temp_dir, PathBuf::from);
    let queue = Arc::new(AtomicU32::new(0));
    let (cortex, guard) = CortexLayer::builder()
        .chrome(folder.join("trace.json"))
        .report_text(TextReport::Stderr)
        .resources(Duration::from_millis(20))
        .source(Depth(Arc::clone(&queue)))
        .sink(Csv(BufWriter::new(File::create(folder.join("spans.csv"))?)))
        // Entered again and again with nothing around it, `render` looks like a task that is polled.
        .held(|metadata| metadata.name() == "render")
        .build()?;
    // As a layer of the registry the filter is global: what it refuses costs nothing.
    tracing_subscriber::registry()
        .with(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with(fmt::layer().with_writer(io::stderr))
        .with(cortex)
        .init();

    let sketch = Picture::new(100).area(&queue)?;
    let so_far = guard.profile();
    info!(busy = %so_far.split.busy, "sketched");
    let area = Picture::new(2_000).area(&queue)?;
    println!("the set's area is about {sketch:.2}, or rather {area:.3}");

    let summary = guard.finish()?;
    println!("{}", summary.diagnosis().headline);
    Ok(())
}

/// Points on a side of the picture and of a tile, and tiles on a side of the picture.
const SIDE: u32 = 1_024;
const TILE: u32 = 32;
const TILES: u32 = SIDE / TILE;

/// The square from -2 - 1.25i to 0.5 + 1.25i.
struct Picture {
    iterations: u32,
    /// Made once and entered for every tile, as candle's models do it.
    render: Span,
}

impl Picture {
    fn new(iterations: u32) -> Picture {
        let render = info_span!("render", iterations);
        Picture { iterations, render }
    }

    /// Renders all tiles on a few threads; returns the area of the set.
    fn area(&self, queue: &AtomicU32) -> Result<f64, &'static str> {
        queue.store(TILES * TILES, Relaxed);
        let work = || -> u32 { iter::from_fn(|| self.render_next(queue)).sum() };
        let points: thread::Result<u32> = thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(work));
            threads.into_iter().map(|thread| thread.join()).sum()
        });
        let points = points.map_err(|_| "a thread panicked")?;
        Ok(f64::from(points) * (2.5 / f64::from(SIDE)).powi(2))
    }

    fn render_next(&self, queue: &AtomicU32) -> Option<u32> {
        let left = queue.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        let number = left.ok()? - 1;
        let _rendering = self.render.enter();
        Some(self.tile(number % TILES * TILE, number / TILES * TILE))
    }

    /// Counts the points that do not escape.
    #[instrument(skip(self))]
    fn tile(&self, x: u32, y: u32) -> u32 {
        let rows = (y..y + TILE).map(|y| f64::from(y) * 2.5 / f64::from(SIDE) - 1.25);
        let columns = (x..x + TILE).map(|x| f64::from(x) * 2.5 / f64::from(SIDE) - 2.0);
        rows.flat_map(|im| columns.clone().map(move |re| (re, im)))
            .map(|(re, im)| {
                let (mut a, mut b) = (0.0, 0.0);
                u32::from((0..self.iterations).all(|_| {
                    (a, b) = (a * a - b * b + re, 2.0 * a * b + im);
                    a * a + b * b <= 4.0
                }))
            })
            .sum()
    }
}

/// How many tiles nobody has taken yet.
struct Depth(Arc<AtomicU32>);

impl ResourceSource for Depth {
    fn name(&self) -> &str {
        "queue"
    }

    fn sample(&mut self, readings: &mut Readings) -> Result<(), Box<dyn Error + Send + Sync>> {
        readings.record("queue.tiles", Unit::Count, self.0.load(Relaxed).into());
        Ok(())
    }
}

struct Csv(BufWriter<File>);

impl Sink for Csv {
    fn name(&self) -> &str {
        "csv"
    }

    fn spans(&mut self, batch: &[SpanRecord<'_>]) -> Result<(), SinkError> {
        batch.iter().try_for_each(|span| {
            let (name, start, end) = (span.site.name, span.start.0, span.end.0);
            writeln!(self.0, "{name},{start},{end}").map_err(SinkError::other)
        })
    }

    fn finish(&mut self, _: &Profile, _: &Diagnosis, _: Duration) -> Result<(), SinkError> {
        self.0.flush().map_err(SinkError::other)
    }
}
