//! When the report is coloured, and what that changes.

use super::*;

#[test]
fn colour_follows_the_terminal_and_the_environment() {
    let colour = |terminal: bool, set: &[(&str, &str)]| {
        TextOptions::from_environment(None, terminal, |name| {
            set.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    };
    assert!(colour(true, &[]).colour);
    assert!(!colour(false, &[]).colour);
    assert!(!colour(true, &[("NO_COLOR", "1")]).colour);
    assert!(colour(true, &[("NO_COLOR", "")]).colour);
    assert!(colour(false, &[("CLICOLOR_FORCE", "1")]).colour);
    assert!(!colour(false, &[("CLICOLOR_FORCE", "0")]).colour);
    assert!(!colour(true, &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]).colour);
    assert!(!colour(true, &[("TERM", "dumb")]).colour);
    assert!(colour(true, &[("LANG", "de_DE.UTF-8")]).unicode);
    assert!(!colour(true, &[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]).unicode);
    assert_eq!(colour(false, &[]).width, 100);
    assert_eq!(colour(false, &[("COLUMNS", "72")]).width, 72);
    assert_eq!(colour(false, &[("COLUMNS", "wide")]).width, 100);
    let narrow = TextOptions::from_environment(Some(80), true, |_| Some("120".to_owned()));
    assert_eq!(narrow.width, 80);
}

#[test]
fn colour_changes_nothing_but_colour() {
    let (profile, diagnosis) = rich();
    let plain = report_text(&profile, &diagnosis, &TextOptions::default());
    let coloured = report_text(&profile, &diagnosis, &TextOptions::default().colour(true));
    assert!(!plain.contains('\u{1b}'));
    assert!(coloured.contains('\u{1b}'));
    let mut stripped = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        stripped.push_str(before);
        rest = after.split_once('m').expect("an escape sequence ends").1;
    }
    stripped.push_str(rest);
    assert_eq!(stripped, plain);
}
