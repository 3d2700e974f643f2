"use strict";
const items = [...document.querySelectorAll("fieldset")];
const kit = document.getElementById("kit").textContent;
const started = Date.now();
const said = {};
const show = () => {
  const judged = Object.keys(said).length;
  document.getElementById("done").textContent = `${judged} of ${items.length} judged`;
};
const answers = () => {
  const judge = document.getElementById("judge").value;
  return JSON.stringify({ kit, judge, answers: said, seconds: (Date.now() - started) / 1000 }, null, 2);
};
for (const item of items) {
  item.addEventListener("change", (event) => {
    said[item.dataset.number] = event.target.value;
    show();
  });
}
document.getElementById("save").addEventListener("click", () => {
  const text = answers();
  document.getElementById("copy").value = text;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `answers-${kit}.json`;
  link.click();
});
show();
