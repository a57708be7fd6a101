// Moves the cursors of the curves with the player, and the player to where a curve or a time is clicked.
element.setAttribute("aria-live", "polite");
const player = () => element.querySelector("video, audio");
element.addEventListener("timeupdate", () => {
  for (const curve of element.querySelectorAll(".hf-curve")) {
    const place = (player().currentTime / curve.dataset.seconds) * curve.viewBox.baseVal.width;
    const cursor = curve.querySelector(".hf-cursor");
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
  }
}, true);  // events of media do not bubble
element.addEventListener("click", (event) => {
  const curve = event.target.closest(".hf-curve");
  const button = event.target.closest(".hf-seek");
  if (button) player().currentTime = Number(button.dataset.time);
  if (curve) {
    const box = curve.getBoundingClientRect();
    player().currentTime = ((event.clientX - box.left) / box.width) * curve.dataset.seconds;
  }
});
