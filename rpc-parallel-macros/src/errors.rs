//! The mistakes found in one use of a macro, reported together.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;

#[derive(Default)]
pub(crate) struct Errors(Vec<syn::Error>);

impl Errors {
    /// Adds a mistake: `sentence` names it and the user's item, `help` is the cure, and `wrong` are
    /// the tokens to underline.
    pub(crate) fn add(&mut self, wrong: impl ToTokens, sentence: impl Display, help: impl Display) {
        // rustc indents the lines after the first one, so the help is aligned with the sentence.
        self.0.push(syn::Error::new_spanned(wrong, format!("{sentence}\nhelp: {help}")));
    }

    /// Returns the value of `parsed`, or adds its syntax error.
    pub(crate) fn absorb<T>(&mut self, parsed: syn::Result<T>) -> Option<T> {
        parsed.map_err(|error| self.0.push(error)).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn sentences(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl ToTokens for Errors {
    /// Writes one `compile_error!` for each mistake.
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.0.iter().map(syn::Error::to_compile_error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_follows_sentence_on_its_own_line() {
        let mut errors = Errors::default();

        errors.add(quote::quote!(add), "worker function `add` must take `&self`", "write `&self`");

        let text = "worker function `add` must take `&self`\nhelp: write `&self`";
        assert_eq!(errors.sentences(), [text]);
    }
}
