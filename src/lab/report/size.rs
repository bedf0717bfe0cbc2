//! The size of a page. Reports are sent by mail and opened on phones, so they should not exceed [`MOST_BYTES`]. The
//! more there is to draw, the less detailed the pictures are.

use super::super::picture::{self, PictureError, PictureLook};
use super::super::stage::Scene;
use super::ReportError;

/// Maximum size of a page, in bytes.
pub const MOST_BYTES: usize = 100_000;
/// Maximum number of rows of a table that grows with the number of threads or with time.
pub const MOST_ROWS: usize = 200;

/// How much the pictures of a page show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Detail {
    /// Writes and pages that are at least this many pixels apart.
    Gap(f64),
    /// Nothing: the pictures are left out.
    NoPictures,
}

/// The levels of detail, the most detailed first.
const DETAILS: [Detail; 5] =
    [Detail::Gap(0.0), Detail::Gap(6.0), Detail::Gap(20.0), Detail::Gap(80.0), Detail::NoPictures];

impl Detail {
    /// Draws a scene, unless pictures are left out.
    pub fn draw(self, scene: &Scene, look: PictureLook<'_>) -> Result<Option<String>, PictureError> {
        match self {
            Detail::Gap(least_gap) => picture::draw(scene, &PictureLook { least_gap, ..look }).map(Some),
            Detail::NoPictures => Ok(None),
        }
    }

    /// The limit that a page with pictures would exceed, if the pictures are left out.
    pub fn left_out(self) -> Option<usize> {
        (self == Detail::NoPictures).then_some(MOST_BYTES)
    }
}

/// Renders a page with the most detailed pictures that fit.
pub fn fitting(render: impl Fn(Detail) -> Result<String, ReportError>) -> Result<String, ReportError> {
    let mut page = String::new();
    for detail in DETAILS {
        page = render(detail)?;
        if page.len() <= MOST_BYTES {
            break;
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_loses_detail_and_then_its_pictures_until_it_fits() {
        let page = |bytes_of_a_picture: usize| {
            fitting(|detail| {
                Ok(match detail {
                    Detail::Gap(gap) => {
                        format!("{gap}:{}", "x".repeat(bytes_of_a_picture / (1 + gap as usize)))
                    }
                    Detail::NoPictures => "none".to_owned(),
                })
            })
            .unwrap()
        };
        assert!(page(50_000).starts_with("0:"));
        assert!(page(500_000).starts_with("6:"));
        assert!(page(5_000_000).starts_with("80:"));
        assert_eq!(page(50_000_000), "none");
    }
}
