//! How much a capture collects.

/// How much a capture collects beside what its sinks ask for.
///
/// What each costs on the thread that runs the spans is measured by `cargo bench --bench hot_path`, in instructions by
/// `cargo bench --bench hot_path -- --callgrind`.
///
/// | level | collects | costs |
/// |---|---|---|
/// | `Basic` | exact statistics of every site, call path and thread | what the README's table says |
/// | `Standard` | and whole trees of sampled roots, with the fields that rules look at | see below |
/// | `Detailed` | and the CPU time of activations, by two readings of the kernel's clock each | see below |
///
/// A root is sampled when it is first entered, with everything that happens inside it, on whatever thread. Of each site
/// the first thread samples its first 16 roots (the second 8, and so on), then every thread at most one in 50 ms (in
/// 250 ms where nothing else streams), and all threads together pause while there are more than 10,000 records a second.
/// A span that is in no sampled tree costs about 15 instructions more than at `Basic`; one that is in a tree costs as much
/// as with a sink that streams.
///
/// At `Detailed` the activations of sites that take 20 us or more on average are measured, and one in 16 of the others; each
/// costs about half a microsecond on Linux. The levels below tell computing from waiting by samples instead, of which a
/// site needs 20.
///
/// sqlx says how long a query took in an event of the target `sqlx::query`. In a sampled tree such an event becomes an
/// operation `query: SELECT ...` under the span around it, without its values, and so a part of the lists and the diagnosis;
/// a span that has `db.*` fields of its own is the query instead. sqlx emits these events at level `DEBUG` unless its
/// `ConnectOptions::log_statements` says otherwise, so a filter must let `sqlx::query=debug` through. Events of other
/// targets cost a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum ProfilingLevel {
    /// Statistics only. The diagnosis cannot tell what waited for what, so it gives no lower end of a gain where threads
    /// or tasks run side by side.
    Basic,
    /// Trees of sampled roots too: [`Profile::trees`](crate::Profile::trees), and with them the critical path and
    /// findings that are ranked by what a replay says would vanish. The default.
    #[default]
    Standard,
    /// CPU time of activations too ([`Stats::cpu`](crate::Stats::cpu)), for runs that are too short for the sampler, or
    /// where its samples leave a doubt. Unix only; elsewhere it is what `Standard` is.
    Detailed,
}
