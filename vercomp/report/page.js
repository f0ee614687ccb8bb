// Point at a box: the edges that arrive at it and leave it light up.
for (const card of document.querySelectorAll(".card")) {
  const edges = document.querySelectorAll(`.from-${card.id}, .to-${card.id}`);
  const light = (on) => edges.forEach((edge) => edge.classList.toggle("lit", on));
  card.addEventListener("mouseenter", () => light(true));
  card.addEventListener("mouseleave", () => light(false));
}
