//! The templates that are compiled into the program, so that it runs in any folder. The build script,
//! `views/pack.rs`, compresses them.

use std::io::{self, Read};

use flate2::read::DeflateDecoder;

/// A template's name in the folder `views/`, and its compressed text.
#[derive(Debug, Clone, Copy)]
pub struct TemplateSource {
    pub name: &'static str,
    packed: &'static [u8],
}

impl TemplateSource {
    /// A template whose text the build script has compressed into these bytes.
    pub const fn new(name: &'static str, packed: &'static [u8]) -> Self {
        TemplateSource { name, packed }
    }

    /// The text as it is in the folder.
    pub fn text(&self) -> io::Result<String> {
        let mut text = String::new();
        DeflateDecoder::new(self.packed).read_to_string(&mut text)?;
        Ok(text)
    }
}

/// The template with this name in the folder `views/`. A name without a file does not compile.
macro_rules! embedded {
    ($name:literal) => {
        $crate::app::embedded::TemplateSource::new(
            $name,
            include_bytes!(concat!(env!("OUT_DIR"), "/views/", $name)),
        )
    };
}
pub(crate) use embedded;

#[cfg(test)]
mod tests {
    #[test]
    fn an_embedded_template_equals_its_file_in_the_folder() {
        let source = embedded!("models/index.html");
        assert_eq!(source.name, "models/index.html");
        assert_eq!(source.text().unwrap(), include_str!("../../views/models/index.html"));
    }
}
