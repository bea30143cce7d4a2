//! The SVG as pixels, with the fonts of `fonts/` (DejaVu Sans, cut down to Latin; its licence is beside it).

use std::sync::{Arc, LazyLock};

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};

use super::{HEIGHT, PNG_SCALE, WIDTH};

const REGULAR: &[u8] = include_bytes!("../../fonts/DejaVuSans-latin.ttf");
const BOLD: &[u8] = include_bytes!("../../fonts/DejaVuSans-Bold-latin.ttf");

/// Read once. Nothing of the host's is looked at.
static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(REGULAR.to_vec());
    fonts.load_font_data(BOLD.to_vec());
    Arc::new(fonts)
});

/// A picture of weir's own could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    #[error("the picture is not readable as SVG")]
    Read(#[from] resvg::usvg::Error),
    #[error("there is no memory for the picture")]
    Room,
    #[error("the picture could not be written as PNG: {0}")]
    Write(String),
}

pub fn render(svg: &str) -> Result<Vec<u8>, PngError> {
    let options =
        Options { font_family: "DejaVu Sans".to_owned(), fontdb: Arc::clone(&FONTS), ..Options::default() };
    let tree = Tree::from_str(svg, &options)?;
    let mut pixels = Pixmap::new(WIDTH * PNG_SCALE, HEIGHT * PNG_SCALE).ok_or(PngError::Room)?;
    let scale = PNG_SCALE as f32;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| PngError::Write(error.to_string()))
}
