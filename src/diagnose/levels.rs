//! Which rules are silent, which warn and which make the program fail.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use crate::diagnose::rules::{self, Rule};

/// Rules that speak only when they are given a level: what they see is a chance, not a fault. That a loop has many items
/// does not say that a device could run it.
const ASKED_FOR: [&str; 1] = ["CTX509"];

/// How many names are offered in place of one that is unknown.
const MOST_MEANT: usize = 3;

/// What becomes of a rule's findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleLevel {
    /// Nothing is said. Time that the rule would explain is not blamed on a more general rule either.
    Allow,
    /// Findings are told.
    Warn,
    /// Findings are told and marked, for a program that is to fail: see
    /// [`Diagnosis::denied`](crate::Diagnosis::denied).
    Deny,
}

/// The levels that were set, by rule.
///
/// ```
/// use tracing_cortex::{RuleLevel, Thresholds};
///
/// let mut thresholds = Thresholds::default();
/// thresholds.levels.set("cold-start", RuleLevel::Allow)?;
/// let unknown = thresholds.levels.set("CTX6O3", RuleLevel::Allow).unwrap_err();
/// assert!(unknown.to_string().contains("CTX603 (cold-start)"));
/// # Ok::<(), tracing_cortex::UnknownRule>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleLevels {
    set: BTreeMap<&'static str, RuleLevel>,
}

impl RuleLevels {
    /// Sets the level of a rule, over one that was set before.
    ///
    /// # Errors
    ///
    /// [`UnknownRule`] if no rule has this id or name.
    pub fn set(&mut self, rule: &str, level: RuleLevel) -> Result<(), UnknownRule> {
        let known = rules::in_order().find(|known| known.is_called(rule));
        match known {
            Some(known) => {
                self.set.insert(known.id, level);
                Ok(())
            }
            None => Err(UnknownRule::new(rule)),
        }
    }

    /// Returns the level that was set for a rule's id; `None` leaves the rule as it is by default.
    pub fn get(&self, id: &str) -> Option<RuleLevel> {
        self.set.get(id).copied()
    }

    /// Returns what holds for a rule.
    pub(crate) fn in_effect(&self, rule: &Rule) -> RuleLevel {
        let by_default = match ASKED_FOR.contains(&rule.id) {
            true => RuleLevel::Allow,
            false => RuleLevel::Warn,
        };
        self.get(rule.id).unwrap_or(by_default)
    }
}

impl Rule {
    fn is_called(&self, name: &str) -> bool {
        self.id.eq_ignore_ascii_case(name) || self.name == name
    }
}

/// No rule has this id or name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownRule {
    /// What was asked for.
    name: String,
    /// The nearest rules.
    meant: Vec<String>,
}

impl UnknownRule {
    fn new(name: &str) -> UnknownRule {
        let mut near: Vec<(usize, &Rule)> = rules::in_order()
            .map(|rule| {
                let by_id = distance(&name.to_ascii_uppercase(), rule.id);
                (by_id.min(distance(name, rule.name)), rule)
            })
            .collect();
        near.sort_by_key(|&(distance, rule)| (distance, rule.id));
        let nearest = near.first().map_or(0, |&(distance, _)| distance);
        let near = near.into_iter().take_while(|near| near.0 == nearest);
        UnknownRule {
            name: name.to_owned(),
            meant: near
                .take(MOST_MEANT)
                .map(|(_, rule)| format!("{} ({})", rule.id, rule.name))
                .collect(),
        }
    }
}

impl fmt::Display for UnknownRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no rule is called {:?}; nearest is {}",
            self.name,
            self.meant.join(", ")
        )
    }
}

impl Error for UnknownRule {}

/// Returns how many letters must be put in, left out or changed to get from one word to the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (at, &wanted) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != wanted);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(row[at].min(diagonal) + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::planted::{MS, Planted, plain, sampled};
    use crate::diagnose::{Thresholds, diagnose};

    fn hot() -> Planted {
        let hot = sampled(plain(&[(90 * MS, 10)]), 50, 50);
        Planted::run(1_000).site("sum", None, hot)
    }

    fn judged(level: RuleLevel) -> crate::model::Diagnosis {
        let mut thresholds = Thresholds::default();
        thresholds.levels.set("hot-self-time", level).unwrap();
        diagnose(&hot().profile, &thresholds)
    }

    #[test]
    fn an_allowed_rule_is_silent_and_a_denied_one_marks_its_findings() {
        let warned = hot().diagnosis();
        assert_eq!(warned.findings[0].rule, "CTX001");
        assert_eq!(warned.denied().count(), 0);

        let allowed = judged(RuleLevel::Allow);
        assert!(allowed.findings.iter().all(|found| found.rule != "CTX001"));
        assert!(!allowed.is_healthy("CTX001"));

        let denied = judged(RuleLevel::Deny);
        let rules: Vec<_> = denied.denied().map(|finding| finding.rule).collect();
        assert_eq!(rules, ["CTX001"]);
    }

    #[test]
    fn rules_are_found_by_id_and_by_name_and_the_last_level_counts() {
        let mut levels = RuleLevels::default();
        levels.set("ctx601", RuleLevel::Deny).unwrap();
        levels.set("tail-latency", RuleLevel::Allow).unwrap();
        assert_eq!(levels.get("CTX601"), Some(RuleLevel::Allow));
        assert_eq!(levels.get("CTX603"), None);
    }

    #[test]
    fn an_unknown_rule_is_an_error_that_names_the_nearest() {
        let unknown = |name| {
            RuleLevels::default()
                .set(name, RuleLevel::Warn)
                .unwrap_err()
                .to_string()
        };
        assert!(unknown("tail-latencies").contains("CTX601 (tail-latency)"));
        assert!(unknown("CTX 601").contains("CTX601 (tail-latency)"));
        assert!(unknown("").contains("\"\""));
    }
}
