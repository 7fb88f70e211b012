// What the notebook's side of a figure does (`this` is its frame): the frame is as high
// as the figure tells, the still picture under it goes, and JupyterLab's theme is its own.

if (!this.follows) {
  this.follows = true;
  window.addEventListener("message", ({ source, data }) => {
    if (source !== this.contentWindow || !(data?.height > 0)) return;
    this.style.height = `${data.height}px`;
    this.previousElementSibling.style.display = "none";
  });
  const dress = () => {
    const light = document.body.dataset.jpThemeLight;
    if (light) this.style.colorScheme = light === "true" ? "light" : "dark";
  };
  new MutationObserver(dress).observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  dress();
}
this.contentWindow.postMessage("height", "*");
