//! What became of each span and each metric point. The only place where they are counted.

use super::settings::Signal;
use crate::model::Export;

/// The end of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The receiver took it but for so many. Without any, `why` is a warning or empty.
    Exported { refused: u64, why: String },
    /// The receiver refused it for good.
    Refused { why: String },
    /// The receiver takes nothing of the signal.
    Unwanted { why: String },
    /// It was given up.
    Dropped { why: String },
    /// It was written to the spill file but for so many, which were given up.
    Spilled { dropped: u64, why: String },
}

#[derive(Debug)]
pub(super) struct Account {
    export: Export,
    /// Of the lost points, those for which the receiver has no place.
    unwanted_points: u64,
    /// Nothing counts any more: what was on its way has been given up, whatever it still does.
    is_closed: bool,
}

impl Account {
    pub(super) fn new(endpoint: String) -> Account {
        Account {
            export: Export {
                name: "otlp".to_owned(),
                endpoint,
                ..Export::default()
            },
            unwanted_points: 0,
            is_closed: false,
        }
    }

    pub(super) fn export(&self) -> &Export {
        &self.export
    }

    /// Returns how many of the lost points are lost only because the receiver takes no metrics.
    pub(super) fn unwanted_points(&self) -> u64 {
        self.unwanted_points
    }

    /// Counts what is on its way from now on.
    pub(super) fn take(&mut self, signal: Signal, amount: u64) {
        if signal == Signal::Traces {
            self.export.pending += amount;
        }
    }

    /// Counts what is no longer on its way.
    pub(super) fn settle(&mut self, signal: Signal, amount: u64, fate: Fate) {
        if self.is_closed {
            return;
        }
        let (taken, why) = match &fate {
            Fate::Exported { refused, why } => (amount - amount.min(*refused), why),
            Fate::Refused { why }
            | Fate::Unwanted { why }
            | Fate::Dropped { why }
            | Fate::Spilled { why, .. } => (0, why),
        };
        let lost = amount - taken;
        let export = &mut self.export;
        if lost > 0 {
            *last_error(export, signal) = Some(why.clone());
        } else if matches!(fate, Fate::Exported { .. }) && !why.is_empty() {
            export.last_warning = Some(why.clone());
        }
        match signal {
            Signal::Metrics => {
                if matches!(fate, Fate::Unwanted { .. }) {
                    self.unwanted_points += lost;
                }
                export.exported_points += taken;
                export.lost_points += lost;
            }
            Signal::Traces => {
                export.pending = export.pending.saturating_sub(amount);
                export.exported += taken;
                match fate {
                    Fate::Exported { .. } | Fate::Refused { .. } | Fate::Unwanted { .. } => {
                        export.refused += lost;
                    }
                    Fate::Dropped { .. } => export.dropped += lost,
                    Fate::Spilled { dropped, .. } => {
                        let dropped = dropped.min(lost);
                        export.dropped += dropped;
                        export.spilled += lost - dropped;
                    }
                }
            }
        }
    }

    /// Notes what is worth knowing though nothing was lost.
    pub(super) fn warn(&mut self, why: String) {
        self.export.last_warning = Some(why);
    }

    /// Gives up what is on its way; nothing is counted afterwards but what comes too late.
    pub(super) fn close(&mut self, lost_points: u64, why: &str) {
        if self.is_closed {
            return;
        }
        self.is_closed = true;
        let export = &mut self.export;
        export.dropped += export.pending;
        export.lost_points += lost_points;
        if export.pending > 0 {
            export.last_error = Some(why.to_owned());
        }
        if lost_points > 0 {
            export.last_points_error = Some(why.to_owned());
        }
        export.pending = 0;
    }

    /// Counts what comes after the end.
    pub(super) fn too_late(&mut self, signal: Signal, amount: u64) {
        match signal {
            Signal::Traces => self.export.dropped += amount,
            Signal::Metrics => self.export.lost_points += amount,
        }
        if amount > 0 {
            *last_error(&mut self.export, signal) = Some("the export has ended before".to_owned());
        }
    }
}

fn last_error(export: &mut Export, signal: Signal) -> &mut Option<String> {
    match signal {
        Signal::Traces => &mut export.last_error,
        Signal::Metrics => &mut export.last_points_error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_which_only_some_could_be_spilled_are_counted_one_by_one() {
        let mut account = Account::new(String::new());
        account.take(Signal::Traces, 5);
        let why = "the disk is full".to_owned();
        account.settle(Signal::Traces, 5, Fate::Spilled { dropped: 2, why });
        let export = account.export();
        assert_eq!((export.spilled, export.dropped, export.pending), (3, 2, 0));
    }
}
