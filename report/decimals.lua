-- Numbers of a column that is set to the right line up at the decimal point, on both routes.
-- What a cell lacks beside the longest one ("281" beside "97.9 ± 0.14") follows it as text that
-- takes room and is not there: for eyes, screen readers, copies and searches alike.

local html = FORMAT:match("^html") ~= nil

-- Room for `text`. Style.css draws it in the page.
local function room(text)
  if text == "" then return nil end
  if html then return pandoc.Span({}, pandoc.Attr("", { "room" }, { ["data-room"] = text })) end
  return pandoc.RawInline("typst", '#hide("' .. text:gsub('[\\"]', "\\%0") .. '");')
end

local function length(text) return utf8.len(text) or #text end

-- Words and spaces alone, perhaps all in bold or italics; nil for anything else.
local function plain(cell)
  local block = cell.contents[1]
  if #cell.contents ~= 1 or (block.t ~= "Plain" and block.t ~= "Para") then return nil end
  local inlines, wrapper = block.content, nil
  if #inlines == 1 and (inlines[1].t == "Strong" or inlines[1].t == "Emph") then
    wrapper = pandoc[inlines[1].t]
    inlines = inlines[1].content
  end
  for _, inline in ipairs(inlines) do
    if inline.t ~= "Str" and inline.t ~= "Space" then return nil end
  end
  return pandoc.utils.stringify(inlines), wrapper
end

-- "−12.50 ± 0.3": sign and whole part, decimals with their point, and what follows.
local function parts(text)
  if text:match("%de[-+]?%d") then return nil end -- 1e-16 stays in one piece
  local sign, whole, decimals, rest = text:match("^([^%w]*)(%d[%d,]*)(%.?%d*)(.*)$")
  if not whole or #sign > 4 then return nil end
  return { whole = sign .. whole, decimals = decimals, rest = rest }
end

local function words(out, text)
  for space, word in text:gmatch("(%s*)(%S*)") do
    if space ~= "" then out:insert(pandoc.Space()) end
    if word ~= "" then out:insert(pandoc.Str(word)) end
  end
end

local function add(out, inline) if inline then out:insert(inline) end end

-- The cell's number with room for the digits and the interval that it lacks.
local function padded(number, decimals, rest)
  local out = pandoc.Inlines({})
  words(out, number.whole .. number.decimals)
  local lacking = decimals:sub(#number.decimals + 1):gsub("%d", "0")
  local own = number.rest
  if own == "" then
    add(out, room(lacking .. rest:gsub("%d", "0")))
    return out
  end
  add(out, room(lacking))
  -- Under "± 10.2" the 0.3 of "± 0.3" stands one digit to the right.
  local sign, interval = own:match("^( ± )(%d.*)$")
  local digits = sign and rest:match("^ ± (%d+)")
  if digits then
    words(out, sign)
    add(out, room(("0"):rep(#digits - #interval:match("^%d+"))))
    words(out, interval)
    local after, longest = interval:match("^%d+(.*)$"), rest:match("^ ± %d+(.*)$")
    add(out, room(("0"):rep(length(longest) - length(after))))
  else
    words(out, own)
    add(out, room(("0"):rep(length(rest) - length(own))))
  end
  return out
end

local function align_column(cells)
  local numbers, decimals, rest, unlike = {}, "", "", false
  for index, cell in ipairs(cells) do
    local text, wrapper = plain(cell)
    local number = text and parts(text)
    if number then
      number.wrapper = wrapper
      numbers[index] = number
      if #number.decimals > #decimals then decimals = number.decimals end
      if length(number.rest) > length(rest) then rest = number.rest end
    end
  end
  for _, number in pairs(numbers) do
    unlike = unlike or #number.decimals ~= #decimals or length(number.rest) ~= length(rest)
  end
  if not unlike then return end
  for index, number in pairs(numbers) do
    local inlines = padded(number, decimals, rest)
    local content = number.wrapper and { number.wrapper(inlines) } or inlines
    cells[index].contents = pandoc.Blocks({ pandoc.Plain(content) })
  end
end

local function align(block)
  for column, spec in ipairs(block.colspecs) do
    if spec[1] == "AlignRight" then
      local cells = {}
      for _, body in ipairs(block.bodies) do
        for _, row in ipairs(body.body) do cells[#cells + 1] = row.cells[column] end
      end
      align_column(cells)
    end
  end
  return block
end

return { { Table = align } }
