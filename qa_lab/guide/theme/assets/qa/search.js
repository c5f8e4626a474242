// Material looks at the search box when a key goes up. Text also comes without: pasted from a menu,
// spoken, chosen from an input method.
document.addEventListener("input", ({ target }) => {
  if (target.matches("[data-md-component=search-query]")) target.dispatchEvent(new Event("keyup"));
});
