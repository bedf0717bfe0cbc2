//! The links of the documents: each relative link leads to a file, and each anchor to a heading.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{documents, root};

fn all_documents() -> Vec<PathBuf> {
    let others = ["CHANGELOG.md", "THIRD-PARTY.md", "crates/ninetabs-server/README.md"];
    documents().into_iter().chain(others.map(|name| root().join(name))).collect()
}

/// The lines of a document outside its code blocks.
fn prose(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.map(str::to_owned).collect()
}

/// The targets of links and pictures: the text in parentheses after brackets.
fn targets(line: &str) -> Vec<&str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(document: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for line in prose(document) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase().replace(' ', "-");
        let anchor: String = kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
        let other = (1..).map(|number| format!("{anchor}-{number}")).find(|it| !all.contains(it));
        let is_new = !all.contains(&anchor);
        all.insert(if is_new { anchor } else { other.unwrap_or_default() });
    }
    all
}

#[test]
fn every_relative_link_and_every_anchor_resolves() {
    let mut seen = 0;
    for document in all_documents() {
        for line in prose(&document) {
            for target in targets(&line) {
                if target.contains("://") {
                    continue;
                }
                seen += 1;
                let (path, anchor) =
                    target.split_once('#').map_or((target, None), |(path, it)| (path, Some(it)));
                let file = match path {
                    "" => document.clone(),
                    _ => document.parent().unwrap().join(path),
                };
                assert!(file.exists(), "{}: {target}", document.display());
                if let Some(anchor) = anchor {
                    assert!(anchors(&file).contains(anchor), "{}: {target}", document.display());
                }
            }
        }
    }
    assert!(seen > 80, "only {seen} links were found");
}

#[test]
fn every_page_of_the_docs_links_to_the_glossary() {
    for document in documents().iter().filter(|document| document.parent().unwrap().ends_with("docs")) {
        let is_glossary = document.ends_with("glossary.md");
        let links = prose(document).iter().any(|line| line.contains("](glossary.md"));
        assert!(links || is_glossary, "{} has no link to the glossary", document.display());
    }
}
