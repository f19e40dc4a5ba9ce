//! Label selectors.

use std::collections::BTreeSet;

use super::Problems;
use crate::k8s::api::{LabelSelector, LabelSelectorRequirement};
use crate::model::cluster::{Requirement, Selector};

/// Converts a list of selectors, any of which may hold; refuses duplicates.
pub(super) fn convert_all(
    selectors: &[LabelSelector],
    field: &str,
    thing: &str,
    problems: &mut Problems,
) -> Vec<Selector> {
    let mut seen = BTreeSet::new();
    let mut converted = Vec::new();
    for (index, selector) in selectors.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let selector = convert(selector, &field, thing, problems);
        let mut canonical = selector.clone();
        canonical.0.sort();
        if !seen.insert(canonical) {
            problems.refuse(field, format!("duplicate definition of {thing} selector"));
        }
        converted.push(selector);
    }
    converted
}

/// Converts one selector.
pub(super) fn convert(
    selector: &LabelSelector,
    field: &str,
    thing: &str,
    problems: &mut Problems,
) -> Selector {
    let labels = selector
        .match_labels
        .iter()
        .map(|(key, value)| Requirement::In(key.clone(), BTreeSet::from([value.clone()])));
    let mut requirements: Vec<_> = labels.collect();
    for (index, expression) in selector.match_expressions.iter().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        requirements.extend(requirement(expression, &field, thing, problems));
    }
    Selector(requirements)
}

fn requirement(
    expression: &LabelSelectorRequirement,
    field: &str,
    thing: &str,
    problems: &mut Problems,
) -> Option<Requirement> {
    let key = expression.key.clone();
    let mut valid = true;
    let mut refuse = |part: &str, message: &str| {
        valid = false;
        let message = format!("invalid {thing} label selector: {message}");
        problems.refuse(format!("{field}.{part}"), message);
    };
    if key.is_empty() {
        refuse("key", "name the label");
    }
    let values: BTreeSet<_> = expression.values.iter().cloned().collect();
    let wants_values = match expression.operator.as_str() {
        "In" | "NotIn" => true,
        "Exists" | "DoesNotExist" => false,
        _ => {
            refuse("operator", "write In, NotIn, Exists or DoesNotExist");
            return None;
        }
    };
    if wants_values && values.is_empty() {
        refuse("values", "In and NotIn need at least one value");
    }
    if !wants_values && !values.is_empty() {
        refuse("values", "Exists and DoesNotExist take no values");
    }
    if !valid {
        return None;
    }
    problems.refuse_duplicates(
        &format!("{field}.values"),
        "match expression value",
        &expression.values,
    );
    Some(match expression.operator.as_str() {
        "In" => Requirement::In(key, values),
        "NotIn" => Requirement::NotIn(key, values),
        "Exists" => Requirement::Exists(key),
        _ => Requirement::DoesNotExist(key),
    })
}
