//! Callsites whose names are drawn at run time.

use std::sync::OnceLock;

use tracing::callsite::{Callsite, Identifier};
use tracing::field::FieldSet;
use tracing::metadata::Kind;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Span};

use crate::program::{Program, SpanStep, Value, each_span};

/// Lives as long as the process, as callsites of a macro do.
struct Drawn(OnceLock<Metadata<'static>>);

impl Callsite for Drawn {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        self.0.get().expect("set when it is made")
    }
}

/// Makes the callsites of a program, in the order of their numbers.
pub fn make(program: &Program) -> Vec<&'static Metadata<'static>> {
    let mut fields = vec![Vec::<&'static str>::new(); program.sites.len()];
    each_span(&program.main, &mut |span| {
        let names = span.fields.iter().map(|(name, _)| *name);
        for name in names.chain(span.later.iter().copied()) {
            let known = &mut fields[span.site.0];
            if !known.contains(&name) {
                known.push(name);
            }
        }
    });
    let named = program.sites.iter().zip(fields);
    named.map(|(name, fields)| one(name, fields)).collect()
}

fn one(name: &str, fields: Vec<&'static str>) -> &'static Metadata<'static> {
    let callsite: &'static Drawn = Box::leak(Box::new(Drawn(OnceLock::new())));
    let fields = FieldSet::new(Vec::leak(fields), Identifier(callsite));
    callsite.0.get_or_init(|| {
        let name = String::leak(name.to_owned());
        let file = Some("src/main.rs");
        Metadata::new(
            name,
            "app",
            Level::INFO,
            file,
            None,
            None,
            fields,
            Kind::SPAN,
        )
    })
}

/// Opens the span of a step, under `parent` if there is nothing around it on this thread.
pub fn open(metadata: &'static Metadata<'static>, step: &SpanStep, parent: Option<&Span>) -> Span {
    let values: Vec<Option<&dyn tracing::Value>> = metadata
        .fields()
        .iter()
        .map(|field| {
            let mut given = step.fields.iter();
            let (_, value) = given.find(|(name, _)| *name == field.name())?;
            Some(match value {
                Value::Int(value) => value as &dyn tracing::Value,
                Value::Float(value) => value,
                Value::Flag(value) => value,
                Value::Text(value) => value,
            })
        })
        .collect();
    let values = metadata.fields().value_set_all(&values);
    match parent {
        Some(parent) => Span::child_of(parent, metadata, &values),
        None => Span::new(metadata, &values),
    }
}
