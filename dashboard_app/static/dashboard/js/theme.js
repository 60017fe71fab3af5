// Light, dark, or as the system has it: chosen with the button, kept under the admin's own key, set before the first paint.

(() => {
  const MODES = ["auto", "light", "dark"];
  const read = () => {
    const mode = localStorage.getItem("theme");
    return MODES.includes(mode) ? mode : "auto";
  };
  const show = (mode) => {
    document.documentElement.dataset.theme = mode;
    const button = document.getElementById("theme-button");
    if (button) button.textContent = `Theme: ${mode}`;
  };
  show(read());
  document.addEventListener("DOMContentLoaded", () => {
    show(read());
    document.getElementById("theme-button")?.addEventListener("click", () => {
      const mode = MODES[(MODES.indexOf(read()) + 1) % MODES.length];
      localStorage.setItem("theme", mode);
      show(mode);
    });
  });
})();
