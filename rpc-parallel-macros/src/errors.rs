//! All that is wrong with one use of a macro, reported together.

use proc_macro2::TokenStream;
use quote::ToTokens;

use crate::mistakes::Mistake;

#[derive(Default)]
pub(crate) struct Errors(Vec<syn::Error>);

impl Errors {
    /// Adds `mistake`, underlining `wrong`.
    pub(crate) fn add(&mut self, wrong: impl ToTokens, mistake: Mistake) {
        self.0.push(syn::Error::new_spanned(wrong, mistake));
    }

    /// Keeps a syntax error; `syn` has said already what was expected where.
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
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.0.iter().map(syn::Error::to_compile_error));
    }
}
