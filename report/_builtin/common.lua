-- What all parts of the filter share: the format, the numbers given out, the problems found.

local M = { html = FORMAT:match("^html") ~= nil, targets = {}, problems = {}, before = function() return "" end }
M.words = { fig = "Figure", tbl = "Table", eq = "Equation", sec = "Section" }
M.callouts = { note = "Note", tip = "Tip", important = "Important", warning = "Warning",
               caution = "Caution" }
local html, counts = M.html, { fig = 0, tbl = 0, eq = 0 }

-- `token` is what to look for in the sources, to tell file and line: several, by decreasing
-- likelihood, with "\31" between them; "~" before one says that it is text whose words may stand
-- in several lines, or between marks. `M.before()` is the text that was read just before.
function M.problem(token, message)
  local line = table.concat({ token, message, M.before() }, "\t"):gsub("%s*\n%s*", " ")
  M.problems[#M.problems + 1] = line
end

function M.escape(text)
  if html then
    return (text:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
  end
  return (text:gsub('[\\"]', "\\%0"))
end

function M.raw(text) return pandoc.RawBlock(html and "html" or "typst", text) end
function M.raw_inline(text) return pandoc.RawInline(html and "html" or "typst", text) end

function M.image_of(block)
  if (block.t == "Para" or block.t == "Plain") and #block.content == 1 and block.content[1].t == "Image" then
    return block.content[1]
  end
end

-- A paragraph that is only an image is a figure, with or without a caption.
function M.as_figure(block)
  if block.t == "Figure" then return block end
  local image = M.image_of(block)
  if not image then return nil end
  local id = image.identifier
  image.identifier = ""
  local caption = #image.caption > 0 and { pandoc.Plain(image.caption) } or {}
  return pandoc.Figure({ pandoc.Plain({ image }) }, { long = caption }, pandoc.Attr(id))
end

function M.prefix_of(id) return id:match("^(%a+)%-") end

-- What `@id` will say, for every numbered thing; `number` may be nil (an unnumbered section).
function M.register(id, number)
  if id == "" then return end
  if M.targets[id] then M.problem(id, "the id '" .. id .. "' is used twice") end
  M.targets[id] = { word = M.words[M.prefix_of(id)], number = number }
end

function M.next_number(kind)
  counts[kind] = counts[kind] + 1
  return tostring(counts[kind])
end

return M
