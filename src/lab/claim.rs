//! Claims: what an act expects, and what it measures.

use serde::Serialize;

/// One claim of an act, and whether it held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// The subject of the claim, which is its name in the JSON output.
    pub claim: String,
    pub expected: String,
    pub measured: String,
    pub held: bool,
    /// The measurement as a sentence, for the terminal and the report.
    #[serde(skip)]
    sentence: Option<String>,
    /// Whether this is the first claim about another server. Such a claim begins a line on the terminal.
    #[serde(skip)]
    pub begins_scene: bool,
}

impl Claim {
    /// Describes the measurement with this sentence, instead of with the claim's name and value.
    pub fn says(&mut self, sentence: impl Into<String>) {
        self.sentence = Some(sentence.into());
    }

    /// Marks this as the first claim about another server.
    pub fn begin_scene(&mut self) -> &mut Claim {
        self.begins_scene = true;
        self
    }

    /// The measurement as a sentence, with the expected value if the claim did not hold.
    pub fn sentence(&self) -> String {
        let said = self.sentence.clone().unwrap_or_else(|| format!("{}: {}", self.claim, self.measured));
        if self.held { said } else { format!("{said} (expected {})", self.expected) }
    }
}

/// The result of one act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub act: usize,
    pub title: String,
    pub claims: Vec<Claim>,
}

impl Verdict {
    /// Whether there are claims and all of them held. An act that measured nothing has shown nothing.
    pub fn held(&self) -> bool {
        !self.claims.is_empty() && self.claims.iter().all(|claim| claim.held)
    }
}

/// The claims of an act, as they are measured.
#[derive(Debug, Default)]
pub struct Claims(Vec<Claim>);

impl Claims {
    /// Claims that the measured value is the expected one.
    pub fn equal<T: PartialEq + ToString>(
        &mut self,
        claim: impl Into<String>,
        expected: T,
        measured: T,
    ) -> &mut Claim {
        let held = expected == measured;
        self.push(claim, expected.to_string(), measured.to_string(), held)
    }

    /// Adds a claim that is not an equality.
    pub fn push(
        &mut self,
        claim: impl Into<String>,
        expected: impl Into<String>,
        measured: impl Into<String>,
        held: bool,
    ) -> &mut Claim {
        let (claim, expected, measured) = (claim.into(), expected.into(), measured.into());
        let index = self.0.len();
        self.0.push(Claim { claim, expected, measured, held, sentence: None, begins_scene: false });
        &mut self.0[index]
    }

    pub fn into_vec(self) -> Vec<Claim> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_without_claims_is_not_as_expected() {
        let verdict = |claims: Claims| Verdict { act: 1, title: "one".into(), claims: claims.into_vec() };
        assert!(!verdict(Claims::default()).held());
        let mut claims = Claims::default();
        claims.equal("tabs", 8, 8);
        claims.push("page", "no byte", "200", false);
        assert!(!verdict(claims).held());
    }

    #[test]
    fn a_claim_names_the_expected_value_only_if_it_did_not_hold() {
        let mut claims = Claims::default();
        claims.equal("tabs", 8, 8).says("8 tabs stream");
        claims.equal("tabs", 8, 2).says("2 tabs stream");
        claims.equal("pages", 1, 1);
        let said: Vec<String> = claims.into_vec().iter().map(Claim::sentence).collect();
        assert_eq!(said, ["8 tabs stream", "2 tabs stream (expected 8)", "pages: 1"]);
    }
}
